"""Hands, mice, insects and people in space, to be drawn: solids, and where their joints are.

Frame: camera, x right, y up, z towards the viewer, in units of about a subject's length; K joints.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from pose.data.synthetic.paint import HAIR, Paint, draw_weave, flat, hsv, rgb, skin_colour, unlike
from pose.data.synthetic.person import Figure, Part
from pose.data.synthetic.pose import GATHERED, rot_x, rot_y, rot_z
from pose.keypoints.skeleton import built_in

# Sides are the subject's own; of an animal that is seen from above and looks up the image: sign of its x.
SIDES = (("left", -1.0), ("right", 1.0))


@dataclass(frozen=True)
class Subject:
    """An animal, a hand or a person in space.

    joints: place of each, and how far the subject itself may lie in front of it if it still counts as seen.
    """

    parts: list[Part]
    joints: dict[str, tuple[np.ndarray, float]]

    def turned(self, turn_33: np.ndarray) -> Subject:
        """The subject turned about the origin."""
        parts = [
            Part(turn_33 @ p.centre_3, turn_33 @ p.axes_33, p.paint, p.tube, p.taper, p.keep)
            for p in self.parts
        ]
        return Subject(
            parts, {name: (turn_33 @ xyz, tolerance) for name, (xyz, tolerance) in self.joints.items()}
        )


def point(*xyz: float) -> np.ndarray:
    """(3,) a place or a direction."""
    return np.array(xyz)


def ball(
    centre_3: np.ndarray, half: Sequence[float] | np.ndarray, paint: Paint, turn_33: np.ndarray | None = None
) -> Part:
    """An ellipsoid by its half axes."""
    return Part(centre_3, (np.eye(3) if turn_33 is None else turn_33) * np.array(half), paint)


def chain(places: Sequence[np.ndarray], radii: Sequence[float], paint: Paint) -> list[Part]:
    """Tubes from place to place with round ends and bends."""
    parts = [ball(place, (radius,) * 3, paint) for place, radius in zip(places, radii, strict=True)]
    for start, end, first, last in zip(places, places[1:], radii, radii[1:], strict=False):
        y = (end - start) / 2
        x = np.cross(y, (0, 0, 1.0) if abs(y[2]) < 0.9 * np.linalg.norm(y) else (1.0, 0, 0))
        x /= np.linalg.norm(x)
        z = np.cross(x, y / np.linalg.norm(y))
        axes_33 = np.column_stack([x, y, z]) * np.array([(first + last) / 2, 1, (first + last) / 2])
        taper = (last - first) / (first + last)
        parts.append(Part((start + end) / 2, axes_33, paint, tube=True, taper=taper))
    return parts


# --- hands ---

FINGERS = {  # where it begins (along the hand, towards the thumb), length, thickness: in lengths of a hand
    "thumb": (0.14, 0.13, 0.46, 0.062), "forefinger": (0.52, 0.145, 0.4, 0.052),
    "middle_finger": (0.54, 0.05, 0.45, 0.054), "ring_finger": (0.52, -0.05, 0.41, 0.052),
    "pinky_finger": (0.46, -0.14, 0.33, 0.045),
}  # fmt: skip


def draw_hand_parts(
    rng: np.random.Generator,
    root: np.ndarray,
    along: np.ndarray,
    thumb: np.ndarray,
    size: float,
    skin: np.ndarray,
) -> Subject:
    """A hand from `root`, the wrist, along a direction, the thumb towards another one; fingers bend away."""
    up = np.cross(along, thumb)  # out of the back or the palm, whichever the viewer sees
    up = up if up[2] > 0 else -up
    paint, nail = flat(skin), flat(np.minimum(skin * 1.12 + 22, 255))
    palm = root + size * (0.3 * along - 0.01 * thumb)
    parts = [ball(palm, size * np.array([0.17, 0.3, 0.06]), paint, np.column_stack([thumb, along, up]))]
    joints = {"hand_root": (root, 0.2 * size)}
    spread = rng.uniform(0.6, 1.5)
    for finger, (start, aside, length, thick) in FINGERS.items():
        curl = np.radians(rng.uniform(2, 24))
        angle = np.radians(42 if finger == "thumb" else 110 * aside * spread) + rng.normal(0, 0.05)
        ahead = np.cos(angle) * along + np.sin(angle) * thumb
        places = [root + size * (start * along + aside * (1 if finger == "thumb" else spread**0.3) * thumb)]
        for bone, share in enumerate((0.44, 0.31, 0.25), start=1):
            bent = np.cos(bone * curl) * ahead - np.sin(bone * curl) * up
            places.append(places[-1] + size * length * share * bent)
        radii = [size * thick * factor for factor in (1.0, 0.95, 0.88, 0.78)]
        parts += chain(places, radii, paint)
        parts.append(ball(places[3] + 0.6 * radii[3] * up, [0.75 * radii[3]] * 3, nail))
        joints |= {f"{finger}{k}": (place, 0.2 * size) for k, place in enumerate(places, start=1)}
    return Subject(parts, joints)


def draw_hand(rng: np.random.Generator) -> Subject:
    """A left or right hand with some of its arm: fingers up the image, of five joints."""
    skin = skin_colour(rng)
    side = -1.0 if rng.random() < 0.5 else 1.0
    hand = draw_hand_parts(rng, point(0, 0, 0), point(0, 1, 0), point(side, 0, 0), 1.0, skin)
    sleeve = draw_weave(rng, unlike(skin, rng))
    arm = chain([point(0, -0.6, 0), point(0, 0.06, 0)], [0.15, 0.115], flat(skin))
    cuff = chain([point(0, -1.2, 0), point(0, -0.35, 0)], [0.22, 0.19], lambda q: sleeve(q[0], q[1]))
    ends = {"wrist": "hand_root"} | {name: f"{name}4" for name in FINGERS if name != "ring_finger"}
    joints = {name: hand.joints[place] for name, place in ends.items()}
    turn = rot_z(rng.normal(0, 22)) @ rot_y(rng.normal(0, 14)) @ rot_x(rng.normal(-8, 12))
    return Subject(hand.parts + arm + cuff, joints).turned(turn)


# --- animals, seen from above ---


def draw_mouse(rng: np.random.Generator) -> Subject:
    """A mouse: a coat of one colour or spots, pink nose, paws and tail."""
    coat = [*HAIR, rgb(245, 242, 236)][int(rng.integers(len(HAIR) + 1))] * rng.uniform(0.85, 1.05)
    weave = draw_weave(rng, coat) if rng.random() < 0.3 else None
    fur = (lambda q: weave(q[0], 0.4 * q[1])) if weave else flat(coat)
    pink = flat(rgb(236, 160, 150) * rng.uniform(0.8, 1.05))
    fat, bend = rng.uniform(0.85, 1.2), rot_z(rng.normal(0, 14))
    front, chest, rump = bend @ point(0, 0.42, 0), bend @ point(0, 0.14, 0), point(0, -0.2, 0)
    head = bend @ rot_z(rng.normal(0, 14))
    nose = front + head @ point(0, 0.22, 0)
    parts = [
        ball(rump, (0.2 * fat, 0.27, 0.17), fur),
        ball(chest, (0.155 * fat, 0.25, 0.14), fur, bend),
        ball(front, (0.115, 0.19, 0.1), fur, head),
        ball(nose, (0.042, 0.042, 0.042), pink),
    ]
    joints = {"nose": (nose, 0.08)}
    for side, sign in SIDES:
        ear = front + head @ point(0.115 * sign, -0.07, 0.06)
        parts.append(ball(ear, (0.085, 0.08, 0.03), pink, head))
        parts.append(
            ball(front + head @ point(0.075 * sign, 0.09, 0.06), (0.022, 0.026, 0.022), flat(rgb(12, 10, 10)))
        )
        joints[f"ear_{side}"] = (ear, 0.06)
    joints |= {"back": ((chest + rump) / 2, 0.25), "tail_base": (rump + point(0, -0.26, 0), 0.12)}
    for name, base, reach, ahead in (("front_paw", chest, 0.23, 0.14), ("hind_paw", rump, 0.27, -0.1)):
        for side, sign in SIDES:
            place = base + point(sign * reach * (0.5 + 0.5 * fat), ahead + rng.normal(0, 0.05), -0.06)
            parts += chain([base + point(0, ahead / 2, -0.05), place], [0.07, 0.05], fur)
            toes = place + point(0.015 * sign, 0.04, 0)
            parts.append(ball(toes, (0.045, 0.07, 0.035), pink))
            joints[f"{name}_{side}"] = (toes, 0.06)
    tail, angle, wag = [rump + point(0, -0.24, 0)], np.radians(rng.normal(-90, 18)), rng.normal(0, 0.3)
    for _ in range(6):
        tail.append(tail[-1] + 0.13 * point(np.cos(angle), np.sin(angle), 0))
        angle += wag
    parts += chain(tail, np.linspace(0.036, 0.014, 7).tolist(), pink)
    return Subject(parts, joints).turned(rot_x(rng.normal(0, 8)) @ rot_z(rng.normal(0, 28)))


LEGS = {
    "front": (0.3, 48.0),
    "middle": (0.18, 2.0),
    "hind": (0.06, -46.0),
}  # place along the body, degrees ahead


def draw_insect(rng: np.random.Generator) -> Subject:
    """An insect: striped abdomen, six legs of four joints, antennae with knobs."""
    shell = hsv(rng.random(), rng.uniform(0.5, 0.95), rng.uniform(0.25, 0.9))
    other = unlike(shell, rng)
    leg_colour, joint_colour = flat(shell * 0.6), flat(other)
    stripes = rng.uniform(1.5, 3.0)
    striped = np.stack([shell, other]).astype(np.float32)
    wide = rng.uniform(0.85, 1.25)
    head, thorax, abdomen = point(0, 0.42, 0), point(0, 0.18, 0), point(0, -0.24, 0)
    parts = [
        ball(
            abdomen, (0.15 * wide, 0.29, 0.13), lambda q: striped[(np.floor(q[1] * stripes) % 2).astype(int)]
        ),
        ball(thorax, (0.12 * wide, 0.18, 0.1), flat(shell)),
        ball(head, (0.11 * wide, 0.1, 0.09), flat(shell * 0.75)),
    ]
    tail = abdomen + point(0, -0.29, 0)
    joints = {"head": (head, 0.15), "thorax": (thorax, 0.15), "abdomen": (abdomen, 0.2), "tail": (tail, 0.1)}
    for side, sign in SIDES:
        eye = head + point(0.08 * sign * wide, 0.05, 0.05)
        parts.append(ball(eye, (0.035, 0.04, 0.035), flat(rgb(16, 14, 14))))
        angle = np.radians(24 + rng.normal(0, 8))
        middle = head + point(0.15 * sign * np.sin(angle), 0.1 + 0.1 * np.cos(angle), 0.05)
        tip = middle + 0.2 * point(sign * np.sin(2 * angle), np.cos(2 * angle), 0)
        parts += chain(
            [head + point(0.04 * sign, 0.07, 0.03), middle, tip], [0.022, 0.018, 0.016], leg_colour
        )
        parts.append(ball(tip, (0.034, 0.034, 0.034), joint_colour))
        joints[f"{side}_antenna"] = (tip, 0.06)
        for leg, (along, ahead) in LEGS.items():
            place, radii = point(0.09 * sign * wide, along, -0.02), (0.045, 0.04, 0.03, 0.024)
            places, angle = [place], np.radians(ahead + rng.normal(0, 9))
            for length, rise, turn in ((0.22, 0.1, 0.0), (0.24, -0.12, -18.0), (0.17, -0.02, -14.0)):
                angle += np.radians(np.sign(ahead) * turn + rng.normal(0, 4))
                places.append(places[-1] + point(sign * length * np.cos(angle), length * np.sin(angle), rise))
            parts += chain(places, radii, leg_colour)
            parts += [
                ball(spot, (1.25 * r,) * 3, joint_colour)
                for spot, r in zip(places[1:], radii[1:], strict=True)
            ]
            names = (f"{side}_{leg}_{part}" for part in ("coxa", "knee", "ankle", "claw"))
            joints |= {name: (spot, 0.12) for name, spot in zip(names, places, strict=True)}
    return Subject(parts, joints).turned(rot_x(rng.normal(0, 8)) @ rot_z(rng.normal(0, 24)))


# --- people ---

RIM = [(-np.cos(np.pi * k / 16), 0.12 - 1.06 * np.sin(np.pi * k / 16)) for k in range(17)]
BROW = [(0.2 + 0.09 * k, 0.4 + 0.05 * np.sin(np.pi * k / 4)) for k in range(5)]  # from the nose outwards
EYE = [
    (0.18, 0.12),
    (0.3, 0.26),
    (0.46, 0.26),
    (0.58, 0.12),
    (0.46, -0.02),
    (0.3, -0.02),
]  # inner corner, above
# Of the iBUG face, seen from the front: (x, y) in half axes of the head, x towards the person's left.
FACE = [
    *RIM,
    *((-x, y) for x, y in reversed(BROW)),
    *BROW,
    *((0.0, y) for y in (0.16, 0.06, -0.05, -0.15)),
    *((x, -0.34) for x in (-0.2, -0.1, 0.0, 0.1, 0.2)),
    *((-EYE[k][0], EYE[k][1]) for k in (3, 2, 1, 0, 5, 4)),
    *EYE,
    *((0.32 * np.cos(a), -0.47 + 0.1 * np.sin(a)) for a in np.pi * (1 - np.arange(12) / 6)),
    *((0.24 * np.cos(a), -0.47 + 0.03 * np.sin(a)) for a in np.pi * (1 - np.arange(8) / 4)),
]
NOSE = range(27, 36)  # of FACE; it stands out of the head


def draw_person(rng: np.random.Generator) -> Subject:
    """A person of the synthetic COCO with fingers, and the joints of COCO-WholeBody."""
    figure = Figure(rng, GATHERED, facing=1.0)
    parts = list(figure.parts)
    places = zip(built_in("coco").joints, figure.coco.xyz_K3, figure.coco.tolerance_K, strict=True)
    joints = {name: (xyz, float(tolerance)) for name, xyz, tolerance in places}
    # A figure's parts end with right arm, right leg, left arm, left leg: five and six solids each.
    for side, sign, arm in (("right", -1.0, -22), ("left", 1.0, -11)):
        hand, shoe = parts[arm + 4], parts[arm + 9]
        for name, offset in (
            ("big_toe", (-0.4, 0.0, 0.95)),
            ("small_toe", (0.6, 0.0, 0.7)),
            ("heel", (0, 0, -0.9)),
        ):
            joints[f"{side}_{name}"] = (shoe.centre_3 + shoe.axes_33 @ (point(sign, 1, 1) * offset), 0.04)
        skin = hand.paint(np.zeros((3, 1)))[0]
        wrist = joints[f"{side}_wrist"][0]
        along = (hand.centre_3 - wrist) / np.linalg.norm(hand.centre_3 - wrist)
        thumb = -sign * np.cross((0, 0, 1.0), along)  # the back of the hand towards the viewer
        thumb /= max(float(np.linalg.norm(thumb)), 1e-6)
        drawn = draw_hand_parts(rng, wrist, along, thumb, 0.13, skin)
        joints |= {f"{side}_{name}": place for name, place in drawn.joints.items()}
        parts[arm + 4] = drawn.parts[0]
        parts = drawn.parts[1:] + parts  # before the others: places from the end stay
    for k, (x, y) in enumerate(FACE):
        z = np.sqrt(max(0.0, 1 - x * x - y * y)) + (0.18 if k in NOSE else 0.0)
        joints[f"face-{k}"] = (figure.head_3 + figure.head_axes_33 @ point(x, y, z), 0.03)
    return Subject(parts, joints)


DRAWN: dict[str, Callable[[np.random.Generator], Subject]] = {
    "hand": draw_hand, "mouse": draw_mouse, "insect": draw_insect, "wholebody": draw_person,
}  # fmt: skip
