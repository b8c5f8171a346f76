"""A kubelet that only has the pod-resources API, on the public gRPC library."""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")  # other tests start processes

import grpc

from tests.kubelet.messages import CLASSES, SERVICE, listing

Refusal = tuple[grpc.StatusCode, str]


class Kubelet:
    """What it answers may be changed while it runs; `asked` counts the questions by method."""

    def __init__(self) -> None:
        self.pods: tuple[Any, ...] = ()
        self.offers: Any = None
        self.refusal: Refusal | None = None
        self.asked: dict[str, int] = {"List": 0, "GetAllocatableResources": 0}

    @contextmanager
    def on(self, path: Path) -> Iterator[None]:
        """Serve on a socket, which is there anew each time."""
        path.unlink(missing_ok=True)
        server = grpc.server(ThreadPoolExecutor(2))
        server.add_generic_rpc_handlers((self._handlers(),))
        server.add_insecure_port(f"unix:{path}")
        server.start()
        try:
            yield
        finally:
            server.stop(None).wait()

    def _handlers(self) -> grpc.GenericRpcHandler:
        def handler(method: Callable[[Any, grpc.ServicerContext], Any], request: str) -> Any:  # noqa: ANN401
            return grpc.unary_unary_rpc_method_handler(
                method,
                request_deserializer=CLASSES[request].FromString,
                response_serializer=lambda message: message.SerializeToString(),
            )

        return grpc.method_handlers_generic_handler(
            SERVICE,
            {
                "List": handler(self._list, "ListPodResourcesRequest"),
                "GetAllocatableResources": handler(self._allocatable, "AllocatableResourcesRequest"),
            },
        )

    def _list(self, _request: object, context: grpc.ServicerContext) -> Any:  # noqa: ANN401
        self.asked["List"] += 1
        if self.refusal:
            context.abort(*self.refusal)
        return listing(*self.pods)

    def _allocatable(self, _request: object, context: grpc.ServicerContext) -> Any:  # noqa: ANN401
        self.asked["GetAllocatableResources"] += 1
        if self.offers is None:
            context.abort(grpc.StatusCode.UNIMPLEMENTED, "method GetAllocatableResources not implemented")
        return self.offers
