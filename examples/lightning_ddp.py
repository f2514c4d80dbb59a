"""Lightning with a compressed DDP: a callback registers the hook, saves its state with each checkpoint, and loads it.

    python examples/lightning_ddp.py --scheme powersgd:rank=4 --folder run
    python examples/lightning_ddp.py --scheme powersgd:rank=4 --folder run --epochs 4 --resume

Lightning starts both processes; its `DDPStrategy(ddp_comm_hook=…)` hooks on cards alone, a callback anywhere.
"""

import argparse

import lightning
import torch
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

from gradwire import data, ddp_hook


class Compression(lightning.Callback):
    """Puts a scheme between the workers. Residuals differ from worker to worker, and a checkpoint holds them all."""

    def setup(self, trainer, module, stage):
        self.state, self.hook = ddp_hook(options.scheme, module.network)

    def on_train_start(self, trainer, module):
        trainer.strategy.model.register_comm_hook(self.state, self.hook)

    def on_save_checkpoint(self, trainer, module, checkpoint):
        checkpoint["gradwire"] = [None] * trainer.world_size
        torch.distributed.all_gather_object(checkpoint["gradwire"], self.state.state_dict())

    def on_train_end(self, trainer, module):
        print(f"rank {trainer.global_rank}, step {self.state.step}: {self.state.bytes_up / 1e6:.2f} MB sent")

    def on_load_checkpoint(self, trainer, module, checkpoint):
        self.state.load_state_dict(checkpoint["gradwire"][trainer.global_rank])


class Digits(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.network = digits.network("lenet", seed=0)

    def training_step(self, batch):
        return cross_entropy(self.network(batch[0]), batch[1])

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.05, momentum=0.9)


parser = argparse.ArgumentParser()
for name, default in (("--scheme", "powersgd:rank=4"), ("--folder", "run"), ("--epochs", 2)):
    parser.add_argument(name, default=default, type=type(default))
parser.add_argument("--resume", action="store_true")
options, digits = parser.parse_args(), data.load("digits", "train")
loader = DataLoader(TensorDataset(*digits.batch(range(len(digits)))), 32, shuffle=True, drop_last=True)
saved = lightning.pytorch.callbacks.ModelCheckpoint(options.folder, "last", enable_version_counter=False)
own = {"callbacks": [saved, Compression()], "logger": False, "enable_progress_bar": False}
trainer = lightning.Trainer(strategy="ddp", accelerator="cpu", devices=2, max_epochs=options.epochs, **own)
trainer.fit(Digits(), loader, ckpt_path=f"{options.folder}/last.ckpt" if options.resume else None)
