"""The identity losses by name."""

from models.nn.cosine_softmax import CosineSoftmaxLoss
from models.nn.oim import OimLoss, SmrOimLoss

ReidLoss = OimLoss | CosineSoftmaxLoss

REID_LOSSES: dict[str, type[ReidLoss]] = {
    "oim": OimLoss,
    "oim_smr": SmrOimLoss,
    "cosine_softmax": CosineSoftmaxLoss,
}
