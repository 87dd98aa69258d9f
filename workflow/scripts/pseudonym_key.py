"""Make the key of the pseudonyms if there is none yet, and publish its fingerprint."""

import json
from pathlib import Path

from polycentric.files import sha256_bytes, write_text
from polycentric.jobs import start
from polycentric.pseudonyms import salt

start(snakemake)
key = salt(Path(snakemake.params.salt), seed=json.loads(snakemake.params.settings)["seed"])
write_text(snakemake.output.fingerprint, sha256_bytes(b"fingerprint" + key) + "\n")
