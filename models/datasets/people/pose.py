"""Poses: the angles of the bones when somebody walks, stands, carries or sits."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.datasets.people.body import Rig, Shape

Matrix = NDArray[np.float64]

# Degrees of hip (forwards), knee (bent) and foot (toes up) in the course of one double step, which
# begins when the heel touches the ground; read off published gait curves.
GAIT_AT = (0.0, 0.1, 0.25, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
HIP = (26, 22, 10, -4, -10, -6, 8, 20, 27, 26)
KNEE = (4, 16, 12, 6, 10, 36, 60, 50, 20, 4)
FOOT = (18, 0, 0, 0, -14, -45, -40, -14, 8, 18)
ARMS_DOWN = 9.0


@dataclass(frozen=True)
class Pose:
    """Angles in degrees.

    Attributes:
        hips, knees, feet: of the left and right leg: forwards, bent, toes up.
        apart: of both legs, outwards.
        shoulders: of the left and right upper arm: forwards.
        elbows: bent.
        inwards: of both forearms, towards the middle.
        spread: of the upper arms, outwards.
        lean, twist, tilt: of the trunk: forwards, to the left, sideways.
        nod, turn: of the head: forwards, to the left.
    """

    hips: tuple[float, float]
    knees: tuple[float, float]
    feet: tuple[float, float]
    shoulders: tuple[float, float]
    elbows: tuple[float, float]
    inwards: tuple[float, float] = (0.0, 0.0)
    spread: tuple[float, float] = (ARMS_DOWN, ARMS_DOWN)
    apart: float = 3.0
    lean: float = 2.0
    twist: float = 0.0
    tilt: float = 0.0
    nod: float = 0.0
    turn: float = 0.0


def walking(phase: float, rng: np.random.Generator) -> Pose:
    """Somebody walking.

    Args:
        phase: of the double step, in [0, 1).
    """
    stride = float(rng.uniform(0.7, 1.15))
    swing = float(rng.uniform(0.3, 1.2))
    hips, knees, feet = (
        tuple(factor * float(np.interp((phase + half) % 1, GAIT_AT, curve)) for half in (0.0, 0.5))
        for curve, factor in ((HIP, stride), (KNEE, 0.6 + 0.4 * stride), (FOOT, stride))
    )
    back = [22 * np.cos(2 * np.pi * (phase + half)) for half in (0.0, 0.5)]
    bend = float(rng.uniform(8, 30))
    return Pose(
        hips=hips,  # type: ignore[arg-type]  # two of each: of the left and the right
        knees=knees,  # type: ignore[arg-type]
        feet=feet,  # type: ignore[arg-type]
        shoulders=(float(-swing * back[0]) - 2, float(-swing * back[1]) - 2),
        elbows=(bend + max(0.0, float(-0.5 * back[0])), bend + max(0.0, float(-0.5 * back[1]))),
        inwards=(float(rng.uniform(0, 14)),) * 2,
        spread=(float(rng.uniform(6, 13)),) * 2,
        apart=float(rng.uniform(0, 3)),
        lean=float(rng.normal(3, 2)),
        twist=float(-0.25 * swing * back[0]),
        nod=float(rng.normal(4, 6)),
        turn=float(rng.normal(0, 14)),
    )


def standing(rng: np.random.Generator) -> Pose:
    """Somebody standing, with their weight on one leg or both."""
    shift = float(rng.uniform(-1, 1))
    knees = (max(0.0, 14 * shift), max(0.0, -14 * shift))
    return Pose(
        hips=(0.6 * knees[0] + float(rng.normal(0, 2)), 0.6 * knees[1] + float(rng.normal(0, 2))),
        knees=knees,
        feet=(0.0, 0.0),
        shoulders=(float(rng.normal(2, 6)), float(rng.normal(2, 6))),
        elbows=(float(rng.uniform(5, 30)), float(rng.uniform(5, 30))),
        inwards=(float(rng.uniform(0, 20)), float(rng.uniform(0, 20))),
        spread=(float(rng.uniform(5, 14)), float(rng.uniform(5, 14))),
        apart=float(rng.uniform(2, 9)),
        lean=float(rng.normal(1, 2)),
        twist=float(rng.normal(0, 6)),
        tilt=float(3 * shift),
        nod=float(rng.normal(5, 8)),
        turn=float(rng.normal(0, 22)),
    )


def sitting(rng: np.random.Generator) -> Pose:
    """Somebody sitting."""
    return Pose(
        hips=(float(rng.uniform(75, 90)), float(rng.uniform(75, 90))),
        knees=(float(rng.uniform(70, 95)), float(rng.uniform(70, 95))),
        feet=(0.0, 0.0),
        shoulders=(float(rng.uniform(5, 35)),) * 2,
        elbows=(float(rng.uniform(30, 80)), float(rng.uniform(30, 80))),
        inwards=(25.0, 25.0),
        apart=float(rng.uniform(3, 14)),
        lean=float(rng.uniform(-5, 15)),
        nod=float(rng.normal(8, 10)),
        turn=float(rng.normal(0, 20)),
    )


def holding(pose: Pose, rng: np.random.Generator) -> Pose:
    """The same with something in one or both hands: a telephone, a strap, a box."""
    which = int(rng.integers(4))
    shoulders, elbows, inwards = list(pose.shoulders), list(pose.elbows), list(pose.inwards)
    side = int(rng.integers(2))
    if which == 0:  # a telephone before the chest
        shoulders[side], elbows[side], inwards[side] = 22.0, float(rng.uniform(85, 115)), 28.0
    elif which == 1:  # a telephone at the ear, or a strap on the shoulder
        shoulders[side], elbows[side], inwards[side] = 35.0, float(rng.uniform(125, 145)), 10.0
    elif which == 2:  # both hands before the body
        bent = float(rng.uniform(60, 100))
        shoulders, elbows, inwards = [12.0, 12.0], [bent, bent], [22.0, 22.0]
    else:  # a hand in the pocket
        shoulders[side], elbows[side], inwards[side] = -12.0, 42.0, 30.0
    return Pose(
        **{
            **vars(pose),
            "shoulders": tuple(shoulders),
            "elbows": tuple(elbows),
            "inwards": tuple(inwards),
        }
    )


def bones_of(rig: Rig, shape: Shape, pose: Pose) -> NDArray[np.float32]:
    """The matrix of each bone, from the rest pose, [B, 4, 4]; the lower foot stands on y = 0."""
    names = rig.names
    down = np.array([0.0, -1, 0])
    turned: dict[str, Matrix] = {}
    trunk = _about(1, pose.twist) @ _about(2, pose.tilt) @ _about(0, pose.lean)
    for number, name in enumerate(("spine05", "spine04", "spine03", "spine02", "spine01")):
        part = (number + 1) / 5
        turned[name] = (
            _about(1, pose.twist * part) @ _about(2, pose.tilt * part) @ _about(0, pose.lean * part)
        )
    for number, name in enumerate(("neck01", "neck02", "neck03", "head")):
        part = (number + 1) / 4
        turned[name] = trunk @ _about(1, pose.turn * part) @ _about(0, pose.nod * part)
    place = {name: number for number, name in enumerate(names)}

    def rest(bone: str, other: str) -> Matrix:
        way = shape.heads[place[other]] - shape.heads[place[bone]]
        return np.asarray(way / np.linalg.norm(way), np.float64)

    for index, side in enumerate("LR"):
        out = 1.0 if side == "L" else -1.0
        thigh = rest(f"upperleg01.{side}", f"lowerleg01.{side}")
        shin = rest(f"lowerleg01.{side}", f"foot.{side}")
        wanted = _about(2, out * pose.apart) @ _about(0, -pose.hips[index]) @ down
        upper = _between(thigh, wanted)
        wanted = (
            _about(2, out * pose.apart * 0.5)
            @ _about(0, pose.knees[index] - pose.hips[index])
            @ down
        )
        lower = _between(upper @ shin, wanted) @ upper
        turned |= {f"upperleg0{n}.{side}": upper for n in (1, 2)}
        turned |= {f"lowerleg0{n}.{side}": lower for n in (1, 2)}
        turned[f"foot.{side}"] = _about(1, out * 4) @ _about(0, -pose.feet[index])
        arm = rest(f"upperarm01.{side}", f"lowerarm01.{side}")
        fore = rest(f"lowerarm01.{side}", f"wrist.{side}")
        wanted = (
            trunk @ _about(2, out * pose.spread[index]) @ _about(0, -pose.shoulders[index]) @ down
        )
        upper = _between(trunk @ arm, wanted) @ trunk
        bent = _about(0, -pose.shoulders[index] - pose.elbows[index]) @ down
        wanted = (
            trunk
            @ _about(2, out * 0.4 * pose.spread[index])
            @ _about(1, -out * pose.inwards[index])
            @ bent
        )
        lower = _between(upper @ fore, wanted) @ upper
        turned |= {f"upperarm0{n}.{side}": upper for n in (1, 2)}
        turned |= {f"lowerarm0{n}.{side}": lower for n in (1, 2)}
        # Half of the arm's way is the shoulder's, so that sleeves do not collapse.
        turned[f"shoulder01.{side}"] = (
            _between(trunk @ arm, (trunk @ arm + upper @ arm) / 2) @ trunk
        )

    bones = np.zeros((len(names), 4, 4))
    for number, (name, parent) in enumerate(zip(names, rig.parents, strict=True)):
        head = np.append(shape.heads[number], 1.0)
        if parent < 0:
            turn, at = turned.get(name, np.eye(3)), head
        else:
            turn = turned.get(name, bones[parent, :3, :3])
            at = bones[parent] @ head
        bones[number, :3, :3] = turn
        bones[number, :3, 3] = at[:3] - turn @ head[:3]
        bones[number, 3, 3] = 1
    bones[:, 1, 3] -= _lowest(rig, shape, bones)
    return bones.astype(np.float32)


def _lowest(rig: Rig, shape: Shape, bones: Matrix) -> float:
    """How far the lowest foot is above its place in the rest pose."""
    low = np.inf
    for side in "LR":
        number = rig.names.index(f"foot.{side}")
        for point in (shape.heads[number], shape.tails[number]):
            for z in (point[2], point[2] - 0.45, point[2] + 0.7):
                sole = np.array([point[0], 0.0, z, 1.0])
                low = min(low, float((bones[number] @ sole)[1]))
    return low


def _about(axis: int, degrees: float) -> Matrix:
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    turn = np.eye(3)
    a, b = ((1, 2), (2, 0), (0, 1))[axis]
    turn[a, a] = turn[b, b] = cos
    turn[a, b], turn[b, a] = -sin, sin
    return turn


def _between(start: Matrix, end: Matrix) -> Matrix:
    """The shortest rotation of one direction into another."""
    a, b = start / np.linalg.norm(start), end / np.linalg.norm(end)
    axis, cos = np.cross(a, b), float(a @ b)
    if cos < -0.9999:
        return _about(1, 180.0)
    cross = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    return np.asarray(np.eye(3) + cross + cross @ cross / (1 + cos))
