from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from pipeline.yolov6.head import anchors
from pipeline.yolov6.train.assigner import Anchors, Assignment, Truth, assign
from pipeline.yolov6.train.boxes import giou, iou
from pipeline.yolov6.train.losses import distribution_focal, loss, varifocal

SIZES, STRIDES = ((8, 8), (4, 4), (2, 2)), (8, 16, 32)  # of a picture of 64 x 64
CLASSES = 3


def grid() -> tuple[Tensor, Tensor]:
    return anchors(SIZES, STRIDES, torch.device("cpu"))


def truth(*rows: tuple[float, ...]) -> Truth:
    """Rows: picture, label, x1, y1, x2, y2."""
    table = torch.tensor(rows, dtype=torch.float32).reshape(-1, 6)
    none = torch.zeros(len(table), dtype=torch.bool)
    return Truth(table[:, 2:], table[:, 1].long(), table[:, 0].long(), none)


def random_truth(generator: torch.Generator, count: int, pictures: int) -> Truth:
    corners = torch.rand(count, 2, 2, generator=generator) * 64
    boxes = torch.cat((corners.amin(1), corners.amax(1)), 1)
    labels = torch.randint(CLASSES, (count,), generator=generator)
    none = torch.zeros(count, dtype=torch.bool)
    return Truth(boxes, labels, torch.arange(count) % pictures, none)


def untrained(pictures: int, bins: int = 1, seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    count = len(grid()[0])
    logits = torch.randn(pictures, count, CLASSES, generator=generator) - 4
    distances = torch.randn(pictures, count, 4 * bins, generator=generator) + 1
    return [logits.requires_grad_(), distances.requires_grad_()]


def overlap(first: list[float], second: list[float]) -> float:
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    shared = max(0.0, width) * max(0.0, height)
    areas = [max(0.0, b[2] - b[0]) * max(0.0, b[3] - b[1]) for b in (first, second)]
    return shared / max(sum(areas) - shared, 1e-9)


def slow_assign(scores: Tensor, boxes: Tensor, objects: Truth, candidates: int) -> Iterator[list]:  # type: ignore[type-arg]
    """2108.07755, object by object and anchor by anchor: (object or -1, score) of each anchor."""
    points, strides = grid()
    pixels = (points * strides).tolist()
    for picture in range(len(scores)):
        claims: dict[int, list[tuple[float, int, float]]] = {}
        mine = [n for n in range(len(objects.boxes)) if objects.pictures[n] == picture]
        for n in mine:
            x1, y1, x2, y2 = box = objects.boxes[n].tolist()
            rows = []
            for a, (x, y) in enumerate(pixels):
                u = overlap(box, boxes[picture, a].tolist())
                s = float(scores[picture, a, objects.labels[n]])
                if x1 <= x < x2 and y1 <= y < y2:
                    rows.append((s * u**6, a, u))
            for t, a, u in sorted(rows, reverse=True)[:candidates]:
                claims.setdefault(a, []).append((u, n, t))
        owned = {a: max(rows, key=lambda row: (row[0], -row[1])) for a, rows in claims.items()}
        answer = []
        for a in range(len(pixels)):
            if a not in owned:
                answer.append((-1, 0.0))
                continue
            _, n, t = owned[a]
            others = [row for row in owned.values() if row[1] == n]
            largest, most = max(row[2] for row in others), max(row[0] for row in others)
            answer.append((n, t / largest * most))
        yield answer


@pytest.mark.parametrize("seed", range(5))
def test_the_assigner_does_what_the_paper_says(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    points, strides = grid()
    objects = random_truth(generator, 9, pictures=3)
    sides = objects.boxes[:, 2:] - objects.boxes[:, :2]
    objects = objects.of((sides >= 8).all(1))
    scores = torch.rand(3, len(points), CLASSES, generator=generator)
    near, far = torch.rand(2, 3, len(points), 2, generator=generator) * 3
    boxes = torch.cat((points - near, points + far), -1) * strides

    given = assign(scores, boxes, Anchors(points * strides, strides), objects, candidates=5)

    for picture, rows in enumerate(slow_assign(scores, boxes, objects, 5)):
        assert given.objects[picture].tolist() == [n for n, _ in rows]
        wanted = torch.tensor([score for _, score in rows])
        torch.testing.assert_close(given.scores[picture], wanted, rtol=1e-4, atol=1e-6)


def test_an_object_smaller_than_a_cell_has_an_anchor() -> None:
    points, strides = grid()
    boxes = torch.cat((points - 1, points + 1), -1)[None] * strides
    scores = torch.full((1, len(points), CLASSES), 0.01)

    given = assign(
        scores, boxes, Anchors(points * strides, strides), truth((0, 1, 15.5, 15.5, 16.5, 16.5))
    )

    assert (given.objects == 0).sum() >= 1


def test_an_object_that_overlaps_nothing_is_not_lost_for_ever() -> None:
    points, strides = grid()
    boxes = torch.zeros(1, len(points), 4)
    boxes[..., 2:] = 0.5
    scores = torch.full((1, len(points), CLASSES), 1e-4)

    given = assign(scores, boxes, Anchors(points * strides, strides), truth((0, 0, 8, 8, 40, 40)))

    assert (given.objects == 0).sum() > 0


def test_varifocal_is_what_the_paper_says() -> None:
    """2008.13367, eq. 2, by hand: two anchors, two classes, one object that asks for 0.8."""
    p, q = 0.3, 0.8
    logits = torch.full((1, 2, 2), math.log(p / (1 - p)))
    given = Assignment(torch.tensor([[0, -1]]), torch.tensor([[q, 0.0]]))

    nobody = torch.zeros(1, 2, dtype=torch.bool)
    found = varifocal(logits, given, torch.tensor([1]), nobody)

    positive = -q * (q * math.log(p) + (1 - q) * math.log(1 - p))
    negative = -0.75 * p**2 * math.log(1 - p)
    assert found.item() == pytest.approx(positive + 3 * negative, rel=1e-5)


def test_the_losses_have_the_weights_of_the_recipe() -> None:
    """One object, all of whose anchors predict the same box: what each kind comes to, by hand."""
    points, strides = grid()
    objects = truth((0, 1, 16, 16, 48, 48))
    logits = torch.full((1, len(points), CLASSES), -2.0)
    distances = torch.zeros(1, len(points), 4 * 17)
    distances[..., ::17] = 50.0
    anchor = 36  # the cell whose centre is (36, 36), of stride 8
    assert (points[anchor] * 8).tolist() == [36.0, 36.0]
    sides = torch.tensor([2.0, 2.0, 1.0, 1.0])  # 20 to 44: an IoU of (24 / 32)²
    one = torch.zeros(4, 17)
    one[torch.arange(4), sides.long()] = 50.0
    distances[0, anchor] = one.flatten()

    costs = loss([logits, distances], points, strides, objects)

    # All 13 anchors are the object's; but for this one their boxes are points, and ask for nothing.
    # The scores asked for come to less than 1, and are not divided by.
    q = (24 / 32) ** 2
    assert costs.boxes.item() == pytest.approx(2.5 * (1 - q) * q, rel=1e-3)
    right = torch.tensor([2.5, 2.5, 1.5, 1.5])  # strides from (36, 36) to the object's sides
    expected = distribution_focal(one[None], right[None]).item()
    assert costs.distributions.item() == pytest.approx(0.5 * expected * q, rel=1e-3)


@pytest.mark.parametrize("bins", [1, 17])
def test_a_perfect_prediction_costs_next_to_nothing(bins: int) -> None:
    points, strides = grid()
    objects = truth((0, 1, 6, 6, 29, 30), (0, 2, 36, 34, 62, 60), (1, 0, 10, 20, 30, 34))
    logits = torch.full((2, len(points), CLASSES), -20.0)
    distances = torch.zeros(2, len(points), 4 * bins)
    if bins > 1:
        distances[..., ::bins] = 20.0  # far from any object: a distance of 0, for sure
    for box, label, picture in zip(*objects[:3], strict=True):
        middle = (box[:2] + box[2:]) / 2
        anchor = int((points * strides - middle)[:64].square().sum(1).argmin())
        logits[picture, anchor, label] = 20.0
        stride = strides[anchor]
        sides = torch.cat((points[anchor] - box[:2] / stride, box[2:] / stride - points[anchor]))
        distances[picture, anchor] = sides if bins == 1 else spread(sides, bins)
    rows = [logits, distances]

    costs = loss(rows, points, strides, objects)

    assert costs.classes < 1e-4
    assert costs.boxes < 1e-4
    # The cross entropy of a distance between two bins is its entropy, not zero.
    assert costs.distributions <= 0.5 * math.log(2)


def spread(sides: Tensor, bins: int) -> Tensor:
    """Logits of the two bins beside each distance, in the proportion that gives it."""
    lower = sides.floor().long()
    share = (sides - lower).clamp(1e-6, 1 - 1e-6)
    logits = torch.full((4, bins), -30.0)
    logits.scatter_(1, lower[:, None], (1 - share).log()[:, None])
    logits.scatter_(1, lower[:, None] + 1, share.log()[:, None])
    return logits.flatten()


def test_a_distance_on_a_bin_costs_nothing_when_that_bin_is_sure() -> None:
    logits = torch.zeros(1, 4, 17)
    logits[0, torch.arange(4), torch.tensor([0, 3, 7, 15])] = 40.0

    costs = distribution_focal(logits, torch.tensor([[0.0, 3.0, 7.0, 15.0]]))

    assert costs.item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("bins", [1, 17])
@pytest.mark.parametrize(
    "objects",
    [
        truth(),
        truth((0, 0, 20, 20, 21, 21)),
        truth((0, 0, 20, 20, 20, 20)),
        truth((0, 1, -500, -500, -100, -100), (1, 1, 200, 10, 300, 20)),
        truth((0, 2, -100, -100, 1000, 1000)),
        truth((1, 2, 30, 30, 20, 20)),
        truth((0, 0, 8, 8, 40, 40), (0, 0, 8, 8, 40, 40)),
    ],
    ids=["none", "pixel", "point", "outside", "beyond", "inside_out", "twice"],
)
def test_gradients_are_finite_whatever_the_truth_is(objects: Truth, bins: int) -> None:
    rows = untrained(2, bins)

    costs = loss(rows, *grid(), objects)
    costs.total.backward()

    assert costs.total.isfinite()
    assert all(row.grad is not None and row.grad.isfinite().all() for row in rows)


@pytest.mark.parametrize("value", [0.0, -50.0, 1e4])
def test_gradients_are_finite_whatever_is_predicted(value: float) -> None:
    rows = [torch.full_like(row, value).requires_grad_() for row in untrained(1)]

    costs = loss(rows, *grid(), truth((0, 0, 8, 8, 40, 40)))
    costs.total.backward()

    assert costs.total.isfinite()
    assert all(row.grad is not None and row.grad.isfinite().all() for row in rows)


def test_what_is_ignored_is_neither_taught_nor_taught_to_be_background() -> None:
    points, strides = grid()
    seen, hidden = (0, 1, 6, 6, 30, 30), (0, 2, 20, 20, 60, 60)
    objects = truth(seen, hidden)._replace(ignored=torch.tensor([False, True]))

    moved = []
    for wanted in (truth(seen), objects):
        rows = untrained(2)
        loss(rows, points, strides, wanted).total.backward()
        gradients = [row.grad for row in rows]
        assert all(gradient is not None for gradient in gradients)
        moved.append([gradient.abs().sum(-1) for gradient in gradients if gradient is not None])

    at = points * strides
    inside = ((at >= 20) & (at < 60)).all(-1)
    alone, beside = moved[0][0] > 0, moved[1][0] > 0
    assert alone.all()
    assert beside[1].all()  # another picture
    assert beside[0][~inside].all()
    own = moved[1][1][0] > 0  # of those that answer for the one that is seen
    assert torch.equal(beside[0] & inside, own & inside)
    assert torch.equal(own, moved[0][1][0] > 0)


def test_following_the_gradient_finds_the_objects() -> None:
    """Logits and distances alone, without a network: what is asked for can be learned."""
    objects = truth((0, 1, 5, 9, 30, 28), (0, 2, 30, 30, 60, 62), (1, 0, 12, 20, 20, 30))
    points, strides = grid()
    rows = untrained(2)
    optimiser = torch.optim.Adam(rows, lr=0.1)

    for _ in range(150):
        costs = loss(rows, points, strides, objects)
        optimiser.zero_grad()
        costs.total.backward()
        optimiser.step()

    boxes = torch.cat((points - rows[1][..., :2], points + rows[1][..., 2:]), -1) * strides
    for box, label, picture in zip(*objects[:3], strict=True):
        surest = rows[0][picture, :, label].argmax()
        assert rows[0][picture, surest, label].sigmoid() > 0.8
        assert iou(boxes[picture, surest], box) > 0.9


def test_giou_is_iou_for_boxes_that_fill_their_hull_and_falls_with_the_gap() -> None:
    box = torch.tensor([0.0, 0.0, 10.0, 10.0])
    shifted = torch.tensor([[5.0, 0, 15, 10], [10.0, 0, 20, 10], [20.0, 0, 30, 10]])

    values = giou(box, shifted)

    torch.testing.assert_close(values, torch.tensor([1 / 3, 0.0, -1 / 3]))
    torch.testing.assert_close(giou(box, box), torch.tensor(1.0))
