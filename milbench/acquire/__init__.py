"""Label tables and features from public servers: fetched, verified, resumable. Reaches no torch.

In: names of cohorts, studies and genes. Out: verified files in the data folder. Open `download.py` first.

::

    http ── download ── released     the study's label tables (GitHub)
      │         └────── hipt         region features of TCGA slides (Git LFS)
      └── cbioportal, gdc ── label_table ── build     labels of any study and gene
"""
