"""The decoupled heads: feature maps → boxes and scores (2209.02976, 2.1).

Training adds branches (anchor-based, distilled) beside those below; they are not part of the
network that runs, and `names.py` drops them.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, partial

import torch
from torch import Tensor, nn

from pipeline.yolov6.blocks import Kit, Make, silu
from pipeline.yolov6.variants import Variant


class Head(nn.Module):
    """P3, P4 … → boxes and scores: one branch for classes, one for the distances of the sides."""

    def __init__(self, variant: Variant, classes: int, bins: int, kit: Kit) -> None:
        super().__init__()
        widths = variant.head_channels
        stem, conv = self._makers(kit)
        self.strides = variant.strides
        self.bins = bins
        self.stems = nn.ModuleList(stem(c, c) for c in widths)
        self.cls_convs = nn.ModuleList(conv(c, c) for c in widths)
        self.reg_convs = nn.ModuleList(conv(c, c) for c in widths)
        self.cls_preds = nn.ModuleList(nn.Conv2d(c, classes, 1) for c in widths)
        self.reg_preds = nn.ModuleList(nn.Conv2d(c, 4 * bins, 1) for c in widths)

    def forward(self, levels: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        return self.decode(*self.rows(levels))

    def rows(self, levels: Sequence[Tensor]) -> tuple[list[Tensor], Tensor, Tensor]:
        """What is decoded: the kinds of `predict`, float32 [B, A, …], and the `anchors`."""
        return self.rows_of([self.predict(i, level) for i, level in enumerate(levels)])

    def rows_of(self, maps: Sequence[tuple[Tensor, ...]]) -> tuple[list[Tensor], Tensor, Tensor]:
        """As `rows`, from what `predict` has given for each level."""
        sizes = tuple((kinds[0].shape[2], kinds[0].shape[3]) for kinds in maps)
        points, strides = anchors(sizes, self.strides, maps[0][0].device)
        # In float32 whatever the network ran in: bfloat16 has 8 bits, coordinates need 11 and more.
        rows = [torch.cat([_rows(x) for x in kind], 1).float() for kind in zip(*maps, strict=True)]
        return rows, points, strides

    def predict(self, i: int, level: Tensor) -> tuple[Tensor, ...]:
        """What level i predicts, raw: classes [B, classes, H, W], distances [B, 4 * bins, H, W]."""
        x = self.stems[i](level)
        return (
            self.cls_preds[i](self.cls_convs[i](x)),
            self.reg_preds[i](self.reg_convs[i](x)),
        )

    def decode(
        self, rows: Sequence[Tensor], points: Tensor, strides: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The kinds of `predict`, float32 [B, A, …] → boxes [B, A, 4], scores [B, A, classes]."""
        logits, distances = rows
        return decode(distances, points, strides, self.bins), logits.sigmoid_()

    def as_distances(self, rows: Sequence[Tensor]) -> Sequence[Tensor]:
        """The kinds of `predict` as logits of scores and as distances, which is what is trained."""
        return rows

    @staticmethod
    def _makers(kit: Kit) -> tuple[Make, Make]:
        """What the stem, and the convolution of either branch, are made by from their widths."""
        return partial(kit.conv, kernel=1, activation=silu), partial(kit.conv, activation=silu)


class ObjectnessHead(Head):
    """The head of release 0.1.0: also whether there is an object, and boxes by centre and size.

    The branches are YOLOX's (2107.08430): the centre is counted from the cell's corner, width and
    height are exponents, and a score is that of the class times that of there being an object.
    """

    def __init__(self, variant: Variant, classes: int, bins: int, kit: Kit) -> None:
        super().__init__(variant, classes, bins, kit)
        self.obj_preds = nn.ModuleList(nn.Conv2d(c, 1, 1) for c in variant.head_channels)

    def predict(self, i: int, level: Tensor) -> tuple[Tensor, ...]:
        """Also objectness [B, 1, H, W], from the branch of the box."""
        x = self.stems[i](level)
        box = self.reg_convs[i](x)
        return (
            self.cls_preds[i](self.cls_convs[i](x)),
            self.reg_preds[i](box),
            self.obj_preds[i](box),
        )

    def decode(
        self, rows: Sequence[Tensor], points: Tensor, strides: Tensor
    ) -> tuple[Tensor, Tensor]:
        logits, sizes, objectness = rows
        centre = sizes[..., :2] + points - 0.5
        half = sizes[..., 2:].exp() / 2
        boxes = torch.cat((centre - half, centre + half), -1) * strides
        return boxes, logits.sigmoid_() * objectness.sigmoid()

    def as_distances(self, rows: Sequence[Tensor]) -> Sequence[Tensor]:
        """The logit of a product of two sigmoids is -log(e^-a + e^-b + e^-(a+b))."""
        logits, sizes, objectness = rows
        objectness = objectness.expand_as(logits)
        product = -torch.stack((-logits, -objectness, -logits - objectness)).logsumexp(0)
        centre, half = sizes[..., :2] - 0.5, sizes[..., 2:].exp() / 2
        return product, torch.cat((half - centre, half + centre), -1)


def decode(distances: Tensor, points: Tensor, strides: Tensor, bins: int) -> Tensor:
    """distances float32 [B, A, 4 * bins] (left, top, right, bottom, in strides) → boxes [B, A, 4].

    With bins, the distance is the expectation of the softmax over them (2006.04388, eq. 3).
    """
    if bins > 1:
        values = torch.arange(bins, dtype=torch.float32, device=distances.device)
        distances = distances.view(*distances.shape[:2], 4, bins).softmax(-1) @ values
    near, far = distances.chunk(2, -1)
    return torch.cat((points - near, points + far), -1) * strides


@cache  # for ever: a recording of the network keeps their addresses
def anchors(
    sizes: tuple[tuple[int, int], ...], strides: tuple[int, ...], device: torch.device
) -> tuple[Tensor, Tensor]:
    """Cell centres x, y [A, 2] in units of their strides, and those strides [A, 1]; float32."""
    points, scales = [], []
    with torch.inference_mode(False):  # whoever asks first, training may ask next
        for (height, width), stride in zip(sizes, strides, strict=True):
            y = torch.arange(height, dtype=torch.float32, device=device) + 0.5
            x = torch.arange(width, dtype=torch.float32, device=device) + 0.5
            points.append(torch.stack((x.repeat(height), y.repeat_interleave(width)), 1))
            scales.append(torch.full((height * width, 1), float(stride), device=device))
        return torch.cat(points), torch.cat(scales)


def _rows(x: Tensor) -> Tensor:
    """[B, C, H, W] → [B, H * W, C]: a view where memory is channels-last."""
    return x.flatten(2).transpose(1, 2)
