"""What the primitives of Flower's SecAgg+ cost: python secagg_by_flower.py CLIENTS ENTRIES prints JSON.

One client's work is measured whole, with as many peers as there are other clients; the server's by its parts, times how
often a round needs each.
"""

import json
import logging
import statistics
import sys
import time
from collections.abc import Callable

import numpy as np
from flwr.common import ndarray_to_bytes
from flwr.common.secure_aggregation import ndarrays_arithmetic as arithmetic
from flwr.common.secure_aggregation.crypto.shamir import combine_shares, create_shares
from flwr.common.secure_aggregation.crypto.symmetric_encryption import generate_shared_key
from flwr.common.secure_aggregation.quantization import dequantize, quantize
from flwr.common.secure_aggregation.secaggplus_utils import pseudo_rand_gen
from flwr.supercore.primitives.asymmetric import generate_key_pairs, private_key_to_bytes


def seconds(work: Callable[[], object], times: int = 3) -> float:
    """The median processor time of several runs, after one that is not counted where there is more than one."""
    found = []
    for _ in range(times + (times > 1)):
        started = time.process_time()
        work()
        found.append(time.process_time() - started)
    return statistics.median(found[times > 1 :])


def measure(clients: int, entries: int) -> dict[str, float]:
    """Seconds for one mask, one client and the server; bytes of one masked vector."""
    logging.disable(logging.CRITICAL)
    add, subtract = arithmetic.parameters_addition, arithmetic.parameters_subtraction
    target, modulus, threshold = 1 << 22, 1 << 32, clients * 2 // 3
    update = [np.random.default_rng(0).normal(size=entries)]
    seed, shape = bytes(range(32)), [(entries,)]
    secret, peer = generate_key_pairs()[0], generate_key_pairs()[1]
    pem = private_key_to_bytes(secret)

    def one_client() -> None:
        vector = add(quantize(update, 8.0, target), pseudo_rand_gen(seed, modulus, shape))
        for i in range(clients - 1):
            generate_shared_key(secret, peer)
            mask = pseudo_rand_gen(generate_shared_key(secret, peer), modulus, shape)
            vector = (add if i % 2 else subtract)(vector, mask)
        arithmetic.parameters_mod(vector, modulus)
        create_shares(seed, threshold, clients)
        create_shares(pem, threshold, clients)

    shares = create_shares(seed, threshold, clients)[:threshold]
    vector = arithmetic.parameters_mod(pseudo_rand_gen(seed, modulus, shape), modulus)
    each = seconds(lambda: add(vector, vector)) + seconds(lambda: combine_shares(shares), 1)
    each += seconds(lambda: subtract(vector, pseudo_rand_gen(seed, modulus, shape)))
    return {
        "mask": seconds(lambda: pseudo_rand_gen(seed, modulus, shape)),
        "client": seconds(one_client, 1),
        "server": clients * each + seconds(lambda: dequantize(vector, 8.0, target)),
        "bytes": len(ndarray_to_bytes(vector[0])),
    }


if __name__ == "__main__":
    print(json.dumps(measure(int(sys.argv[1]), int(sys.argv[2]))))
