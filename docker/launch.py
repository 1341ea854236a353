"""What Dataflow's template launcher runs: a job, with the parameters of its template."""

import os
import sys

from pipelines.arguments import job_parsers
from pipelines.commands import main
from pipelines.template import command_of

job = os.environ["ALTMILL_JOB"]
sys.exit(main(command_of(job_parsers()[job], job, sys.argv[1:])))
