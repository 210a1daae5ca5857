"""Whether torch.compile pays for tangents: products with the derivative of a ResNet, as they are and compiled.

    python benchmarks/compiled_tangents.py [--device cuda]

The network of an unrolled step, 32 features, on an image of 80×64 (256×256 on a GPU); 16 products at once by vmap(jvp),
in single precision and with convolutions in bfloat16. Milliseconds a product, the best of five calls, one thread on a
CPU; seconds to compile; relative difference of the compiled products from the others.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from contextlib import nullcontext

import torch
from torch import Tensor

from mrnoise.estimators.batching.clock import Stopwatch
from mrnoise.estimators.batching.memory import freed_blocks_kept
from mrnoise.networks.layers import ResNet

FEATURES, PRODUCTS, CALLS = 32, 16, 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    device = parser.parse_args().device
    torch.set_num_threads(1)
    torch.manual_seed(0)
    network = ResNet(FEATURES).to(device).requires_grad_(False)
    torch.nn.init.normal_(network.last.weight, std=0.1)
    shape = (80, 64) if device.type == "cpu" else (256, 256)
    image, *tangents = torch.randn(1 + PRODUCTS, 1, 2, *shape, device=device)
    print("| precision | eager | compiled | seconds to compile | difference |\n|---|---|---|---|---|")
    for name, context in (("single", nullcontext()), ("bfloat16", torch.autocast(device.type, torch.bfloat16))):
        with torch.no_grad(), freed_blocks_kept(), context:
            print(row(name, network, image, torch.stack(tangents)), flush=True)


def row(name: str, network: ResNet, image: Tensor, tangents: Tensor) -> str:
    def products(tangents: Tensor) -> Tensor:
        return torch.func.vmap(lambda t: torch.func.jvp(network, (image,), (t,))[1])(tangents)

    expected, eager = milliseconds(products, tangents)
    compiled = torch.compile(products)
    started = time.perf_counter()
    compiled(tangents)
    seconds = time.perf_counter() - started
    found, faster = milliseconds(compiled, tangents)
    difference = float((found - expected).norm() / expected.norm())
    return f"| {name} | {eager:.2f} ms | {faster:.2f} ms | {seconds:.0f} | {difference:.1e} |"


def milliseconds(products: Callable[[Tensor], Tensor], tangents: Tensor) -> tuple[Tensor, float]:
    """The products, and how long each takes."""
    best = float("inf")
    for _ in range(CALLS):
        stopwatch = Stopwatch(tangents.device)
        found = products(tangents)
        best = min(best, stopwatch.seconds())
    return found, 1e3 * best / len(tangents)


if __name__ == "__main__":
    main()
