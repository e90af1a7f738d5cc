"""Losses against the answers of a network that tells people apart already.

An answer is a unit vector [D]; a row of zeros stands for somebody about whom it was not asked.
Neither loss needs to know who somebody is.

Reference:
    Park et al., Relational Knowledge Distillation, CVPR 2019, for matching the relations within a
    batch beside the answers themselves.
"""

from torch import Tensor

from models.nn.joint import gather_rows, joint_count


def teacher_losses(embeddings: Tensor, answers: Tensor) -> dict[str, Tensor]:
    """Both losses of a batch's people.

    Args:
        embeddings: [N, D], of unit length.
        answers: [N, D], of unit length or zero.

    Returns:
        "loss_teacher": mean of 1 - cosine between embedding and answer.
        "loss_similarity": mean over pairs of different people of the squared difference between
        the embeddings' cosine and the answers'. Others of a pair are taken as they are: from both
        sides of all pairs comes the whole gradient.
        Both are 0 where nobody has an answer.
    """
    answered = answers.abs().amax(dim=1) > 0 if len(answers) else answers.new_zeros(0).bool()
    own, wanted = embeddings[answered], answers[answered]
    count = joint_count(len(own)).to(embeddings)
    others, theirs = gather_rows(own), gather_rows(wanted)
    pairs = joint_count(len(own) * max(len(others) - 1, 0)).to(embeddings)
    if len(own) == 0:
        nothing = embeddings.sum() * 0
        return {"loss_teacher": nothing, "loss_similarity": nothing}
    apart = 1 - (own * wanted).sum(dim=1)
    # Everybody's pair with themselves adds nothing: its cosine is 1 on both sides.
    differences = own @ others.T - wanted @ theirs.T
    return {
        "loss_teacher": apart.sum() / count,
        "loss_similarity": differences.square().sum() / pairs.clamp(min=1),
    }
