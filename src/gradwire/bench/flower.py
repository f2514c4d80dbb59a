"""What the primitives of Flower's SecAgg+ cost, measured in a Python that has flwr: run as a script, prints JSON.

    python flower.py CLIENTS ENTRIES

It imports nothing of gradwire, so that any interpreter can run it. One client's work is measured whole, with as many
peers as there are other clients; the server's by its parts, times how often a round needs each.
"""

import json
import logging
import statistics
import sys
import time
from collections.abc import Callable


def seconds(work: Callable[[], object], times: int = 3) -> float:
    """The median wall time of several runs, after one that is not counted where there is more than one."""
    found = []
    for _ in range(times + (times > 1)):
        started = time.perf_counter()
        work()
        found.append(time.perf_counter() - started)
    return statistics.median(found[times > 1 :])


def measure(clients: int, entries: int) -> dict[str, float]:
    """Seconds for one mask, one client and the server; bytes of one masked vector."""
    import numpy as np
    from flwr.common import ndarray_to_bytes
    from flwr.common.secure_aggregation.crypto.shamir import combine_shares, create_shares
    from flwr.common.secure_aggregation.ndarrays_arithmetic import (
        parameters_addition,
        parameters_mod,
        parameters_subtraction,
    )
    from flwr.common.secure_aggregation.quantization import dequantize, quantize
    from flwr.common.secure_aggregation.secaggplus_utils import pseudo_rand_gen

    logging.disable(logging.CRITICAL)
    crypto = _crypto()
    target, modulus, threshold = 1 << 22, 1 << 32, clients * 2 // 3
    update = [np.random.default_rng(0).normal(size=entries)]
    seed, shape = bytes(range(32)), [(entries,)]
    secret, peer = crypto.generate_key_pairs()[0], crypto.generate_key_pairs()[1]
    pem = crypto.private_key_to_bytes(secret)

    def one_client() -> None:
        vector = parameters_addition(quantize(update, 8.0, target), pseudo_rand_gen(seed, modulus, shape))
        for i in range(clients - 1):
            crypto.generate_shared_key(secret, peer)
            key = crypto.generate_shared_key(secret, peer)
            mask = pseudo_rand_gen(key, modulus, shape)
            vector = (parameters_addition if i % 2 else parameters_subtraction)(vector, mask)
        parameters_mod(vector, modulus)
        create_shares(seed, threshold, clients)
        create_shares(pem, threshold, clients)

    shares = create_shares(seed, threshold, clients)[:threshold]
    vector = parameters_mod(pseudo_rand_gen(seed, modulus, shape), modulus)
    each = (
        seconds(lambda: parameters_addition(vector, vector))
        + seconds(lambda: combine_shares(shares), 1)
        + seconds(lambda: parameters_subtraction(vector, pseudo_rand_gen(seed, modulus, shape)))
    )
    return {
        "mask": seconds(lambda: pseudo_rand_gen(seed, modulus, shape)),
        "client": seconds(one_client, 1),
        "server": clients * each + seconds(lambda: dequantize(vector, 8.0, target)),
        "bytes": len(ndarray_to_bytes(vector[0])),
    }


def _crypto():  # type: ignore[no-untyped-def]
    """Flower's key agreement, wherever this version of it keeps that."""
    from importlib import import_module

    for name in ("flwr.supercore.primitives.asymmetric", "flwr.common.secure_aggregation.crypto.symmetric_encryption"):
        try:
            module = import_module(name)
        except ImportError:
            continue
        if hasattr(module, "generate_key_pairs"):
            if not hasattr(module, "generate_shared_key"):
                other = import_module("flwr.common.secure_aggregation.crypto.symmetric_encryption")
                module.generate_shared_key = other.generate_shared_key  # type: ignore[attr-defined]
            return module
    raise ImportError("this flwr has no key agreement where it is known to be")


if __name__ == "__main__":
    print(json.dumps(measure(int(sys.argv[1]), int(sys.argv[2]))))
