"""Start Beam's Python worker: what a runner on the JVM calls for an environment PROCESS.

Images of Beam have a program in Go for it, which no package has; a worker pool calls it, too, as
its `--container_executable`.  Packages are those of this environment: nothing staged is fetched.

Source: Beam's container contract, https://s.apache.org/beam-fn-api-container-contract.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from typing import Any

import grpc
from apache_beam.portability.api import beam_provision_api_pb2 as messages
from apache_beam.portability.api import beam_provision_api_pb2_grpc as services
from apache_beam.runners.worker import sdk_worker_main
from google.protobuf import json_format, text_format

from recaption.workers import end_with_parent


def main(arguments: Sequence[str]) -> None:
    """Ask the runner what there is to know, and work until it says that all is done."""
    parser = argparse.ArgumentParser(prog="python -m pipelines.worker")
    parser.add_argument("--id", required=True)
    parser.add_argument("--provision_endpoint", required=True)
    told, _ = parser.parse_known_args(arguments)  # the other endpoints: not all runners give them
    end_with_parent()
    os.environ |= environment(told.id, told.provision_endpoint)
    sdk_worker_main.main([])


def environment(worker: str, endpoint: str) -> dict[str, str]:
    """Return what Beam's worker looks for in its environment."""
    with grpc.insecure_channel(endpoint) as channel:
        service = services.ProvisionServiceStub(channel)
        asked = messages.GetProvisionInfoRequest()
        info: Any = service.GetProvisionInfo(asked, metadata=[("worker_id", worker)]).info
    return {
        "WORKER_ID": worker,
        "PIPELINE_OPTIONS": json_format.MessageToJson(info.pipeline_options),
        "LOGGING_API_SERVICE_DESCRIPTOR": text_format.MessageToString(info.logging_endpoint),
        "CONTROL_API_SERVICE_DESCRIPTOR": text_format.MessageToString(info.control_endpoint),
        "RUNNER_CAPABILITIES": " ".join(info.runner_capabilities),
    }


if __name__ == "__main__":
    main(sys.argv[1:])
