"""Worker: what a runner tells is where Beam's worker looks for it."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
from apache_beam.portability.api import beam_provision_api_pb2 as messages
from apache_beam.portability.api import beam_provision_api_pb2_grpc as services
from apache_beam.portability.api import endpoints_pb2
from apache_beam.runners.worker.sdk_worker_main import _load_pipeline_options
from google.protobuf import text_format

from pipelines.worker import environment


class Provision(services.ProvisionServiceServicer):
    """Tells what a job server of Beam tells."""

    def GetProvisionInfo(self, _: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        worker = dict(context.invocation_metadata())["worker_id"]
        info = messages.ProvisionInfo(
            control_endpoint=endpoints_pb2.ApiServiceDescriptor(url=f"localhost:1{worker}"),
            logging_endpoint=endpoints_pb2.ApiServiceDescriptor(url="localhost:2"),
            runner_capabilities=["a", "b"],
        )
        info.pipeline_options.update({"beam:option:job_name:v1": "mill"})
        return messages.GetProvisionInfoResponse(info=info)


@pytest.fixture
def endpoint() -> Iterator[str]:
    server = grpc.server(ThreadPoolExecutor(1))
    services.add_ProvisionServiceServicer_to_server(Provision(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None).wait()


def test_a_worker_learns_from_the_runner_where_it_is_to_work(endpoint: str) -> None:
    found = environment("7", endpoint)

    assert {name: text_format.Parse(found[name], endpoints_pb2.ApiServiceDescriptor()).url
            for name in found if name.endswith("DESCRIPTOR")} == {
        "CONTROL_API_SERVICE_DESCRIPTOR": "localhost:17",
        "LOGGING_API_SERVICE_DESCRIPTOR": "localhost:2",
    }  # fmt: skip
    assert _load_pipeline_options(found["PIPELINE_OPTIONS"]) == {"job_name": "mill"}
    assert (found["WORKER_ID"], found["RUNNER_CAPABILITIES"]) == ("7", "a b")
