"""Label tables and features from public servers: fetched, verified, resumable. Reaches no torch.

::

    http ── download ── released     the study's label tables (GitHub)
      │         └────── hipt         region features of TCGA slides (Git LFS)
      └── cbioportal, gdc ── label_table ── build     labels of any study and gene
"""
