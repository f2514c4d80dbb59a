"""Four rounds of a scheme on three sites of NVFlare's simulator: python job.py [SCHEME]."""

import sys

from nvflare.job_config.api import FedJob

from rounds import Rounds, Site

job = FedJob(name="gradwire", min_clients=3)
job.to_server(Rounds([*sys.argv, "powersgd:rank=2"][1], 4))
job.to_clients(Site(), tasks=["round"])
job.simulator_run("workspace", n_clients=3, log_config="concise")
