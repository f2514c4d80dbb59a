r"""A small GPT trained by DiLoCo: workers train alone, and every so many steps send what that changed.

    torchrun --nproc-per-node 4 examples/diloco.py --scheme none
    torchrun --nproc-per-node 4 examples/diloco.py --scheme topk:ratio=0.05,per=model --outer-lr 1 --outer-momentum 0 \
        --local-residual
    torchrun --nproc-per-node 4 examples/diloco.py --scheme qsgd:bits=4 --fragments 2 --overlap 5

Each trains on its share of SST-2's sentences, byte by byte, for 2,000 steps, and ends with the loss on sentences that
nobody trained on and the bytes that a worker sent.
"""

import argparse
import time

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.functional import cross_entropy

import gradwire
from gradwire.data.hub import rows

LENGTH, WIDTH, HEADS, LAYERS, BYTES = 32, 64, 4, 2, 256


class GPT(nn.Module):
    """A causal transformer over bytes: (B, LENGTH) → logits (B, LENGTH, BYTES)."""

    def __init__(self) -> None:
        super().__init__()
        self.token, self.place = nn.Embedding(BYTES, WIDTH), nn.Embedding(LENGTH, WIDTH)
        layer = nn.TransformerEncoderLayer(WIDTH, HEADS, 4 * WIDTH, 0.0, "gelu", batch_first=True, norm_first=True)
        self.blocks = nn.TransformerEncoder(layer, LAYERS, nn.LayerNorm(WIDTH), enable_nested_tensor=False)
        self.head = nn.Linear(WIDTH, BYTES)

    def forward(self, tokens):
        """Logits of each next byte."""
        mask = nn.Transformer.generate_square_subsequent_mask(LENGTH)
        x = self.token(tokens) + self.place(torch.arange(LENGTH))
        return self.head(self.blocks(x, mask=mask, is_causal=True))


def text(split: str) -> torch.Tensor:
    """The bytes of a split's sentences, one after another."""
    found, _ = rows("sst2", split)
    return torch.frombuffer(
        bytearray("\n".join(map(str, found.column(0).to_pylist())).encode()), dtype=torch.uint8
    ).long()


def batch(source: torch.Tensor, size: int, random: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Random pieces of the text, (size, LENGTH), and the bytes that come next."""
    starts = torch.randint(len(source) - LENGTH - 1, (size, 1), generator=random) + torch.arange(LENGTH + 1)
    return source[starts[:, :-1]], source[starts[:, 1:]]


def loss_of(model: GPT, inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """The mean over all bytes, in nats."""
    return cross_entropy(model(inputs).flatten(0, 1), targets.flatten())


parser = argparse.ArgumentParser()
parser.add_argument("--scheme", default="topk:ratio=0.05")
parser.add_argument("--steps", type=int, default=2000)
parser.add_argument("--every", type=int, default=50)
parser.add_argument("--outer-lr", type=float, default=0.7)
parser.add_argument("--outer-momentum", type=float, default=0.9)
parser.add_argument("--local-residual", action="store_true", help="keep what is not sent in the worker's own model")
parser.add_argument("--fragments", type=int, default=1)
parser.add_argument("--overlap", type=int, default=0, help="local steps that go on beside a round")
parser.add_argument("--batch", type=int, default=8)
parser.add_argument("--seed", type=int, default=0)
options = parser.parse_args()

dist.init_process_group("gloo")
rank, workers = dist.get_rank(), dist.get_world_size()
torch.set_num_threads(1)
torch.manual_seed(options.seed)
model = GPT()
mine = text("train").chunk(workers)[rank]
how = {"lr": options.outer_lr, "momentum": options.outer_momentum, "local_residual": options.local_residual}
how |= {"fragments": options.fragments, "overlap": options.overlap}
outer = gradwire.outer_step(model, options.scheme, options.every, **how)
optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
random, started = torch.Generator().manual_seed(1000 * options.seed + rank), time.perf_counter()
for _ in range(options.steps):
    optimizer.zero_grad()
    loss_of(model, *batch(mine, options.batch, random)).backward()
    optimizer.step()
    outer.step()
if options.local_residual or options.overlap:
    outer.finish()

if rank == 0:
    with torch.no_grad():
        held_out = text("test")
        tests = [loss_of(model, *batch(held_out, 256, torch.Generator().manual_seed(i))).item() for i in range(8)]
    cost = f"{outer.rounds} rounds, {outer.bytes_up / 1e6:.2f} MB sent, {time.perf_counter() - started:.0f} s"
    print(f"{options.scheme}: loss {sum(tests) / len(tests):.4f}, {cost}")
dist.destroy_process_group()
