"""The UI: on this machine only, with links that open what is meant."""

import sys
from pathlib import Path

import pytest
from tracked_for_tests import stored

from milbench.errors import TrackingError
from milbench.store.run import Run
from milbench.tracking.client import default_uri
from milbench.tracking.publish import publish
from milbench.tracking.publisher import BEST_FIRST, KIND
from milbench.tracking.ui import ui_command, ui_links

pytestmark = pytest.mark.filterwarnings("ignore")  # MLflow's own, on import and on use


def test_the_ui_is_served_on_the_loopback_address_only(tmp_path: Path) -> None:
    command = ui_command("sqlite:///x.db", 5001)
    assert command[:4] == [sys.executable, "-m", "mlflow", "ui"]
    assert command[command.index("--host") + 1] == "127.0.0.1"


def test_the_links_name_the_run_list_and_the_comparison_of_all_models(run: Run) -> None:
    uri = default_uri(run.path.parent)
    publish(run, uri)
    lines = ui_links(uri, 5001)
    parents = [r.info.run_id for r in stored(run) if r.data.tags[KIND] == "parent"]
    assert lines[0].startswith("milbench toy, parents and trials: http://127.0.0.1:5001/#/experiments/")
    assert lines[1].endswith(f"viewStateShareKey={BEST_FIRST}")
    assert "2 models compared" in lines[2]
    assert all(run_id in lines[2] for run_id in parents)
    with pytest.raises(TrackingError, match="nothing has been tracked"):
        ui_links(default_uri(run.path.parent / "elsewhere"), 5001)
