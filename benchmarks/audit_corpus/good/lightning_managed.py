"""Lightning switches modes around validation_step, so that the module itself calls neither train nor eval."""

import lightning
import torch
import torch.nn.functional as F
from torch import nn

REPORT = "https://github.com/IBM/molformer/issues/8"
RULES = ()
STATIC = True


class Classifier(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.first, self.drop, self.second = nn.Linear(32, 64), nn.Dropout(0.2), nn.Linear(64, 3)

    def forward(self, x):
        return self.second(self.drop(torch.relu(self.first(x))))

    def training_step(self, batch, batch_idx):
        x, y = batch
        return F.cross_entropy(self(x), y)

    def validation_step(self, batch, batch_idx):
        x, y = batch
        self.log("val_loss", F.cross_entropy(self(x), y))

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters())
