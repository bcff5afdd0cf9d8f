"""Batch normalisation, of one process or over the batches of all. Legend: B images, C channels, h w cells."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn


class BatchNorm2d(nn.BatchNorm2d):
    """`nn.BatchNorm2d` that does not count its batches itself: see `PoseNetwork.count_batches`."""

    momentum: float
    num_batches_tracked: Tensor

    def forward(self, x_BChw: Tensor) -> Tensor:
        """Normalise by the batch's mean and variance, in evaluation by those of training."""
        statistics, scale = (self.running_mean, self.running_var), (self.weight, self.bias)
        return F.batch_norm(x_BChw, *statistics, *scale, self.training, self.momentum, self.eps)


class SyncBatchNorm(BatchNorm2d):
    """`nn.SyncBatchNorm` for any device (torch's own is for GPUs). All processes need batches of one size."""

    running_mean: Tensor
    running_var: Tensor

    def forward(self, x_BChw: Tensor) -> Tensor:
        """Normalise, in training by the mean and variance over all processes, in float32 at least."""
        if not self.training:
            return super().forward(x_BChw)
        wide = x_BChw if x_BChw.dtype == torch.float64 else x_BChw.float()
        count = dist.get_world_size() * wide.numel() // wide.shape[1]
        mean_C = _Sum.apply(wide.sum(dim=(0, 2, 3))) / count
        centred = wide - mean_C[:, None, None]
        variance_C = _Sum.apply(centred.square().sum(dim=(0, 2, 3))) / count
        self.running_mean.lerp_(mean_C.detach(), self.momentum)
        self.running_var.lerp_(variance_C.detach() * count / max(count - 1, 1), self.momentum)
        scale_C = self.weight * torch.rsqrt(variance_C + self.eps)
        return (centred * scale_C[:, None, None] + self.bias[:, None, None]).to(x_BChw.dtype)


class _Sum(torch.autograd.Function):
    """The sum over all processes, whose gradient is the sum of theirs: each one's loss depends on it."""

    @staticmethod
    def forward(ctx: Any, values_C: Tensor) -> Tensor:
        total_C = values_C.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total_C)
        return total_C

    @staticmethod
    def backward(ctx: Any, grad_C: Tensor) -> Tensor:
        return _Sum.forward(ctx, grad_C)


def convert_sync_batch_norm(net: nn.Module) -> nn.Module:
    """Replace a network's BatchNorms in place, keeping names, parameters and buffers; returns it."""
    if any(parameter.is_cuda for parameter in net.parameters()):
        return nn.SyncBatchNorm.convert_sync_batchnorm(net)
    for parent in list(net.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.BatchNorm2d):
                replaced = SyncBatchNorm(child.num_features, eps=child.eps, momentum=child.momentum)
                replaced._parameters, replaced._buffers = child._parameters, child._buffers
                replaced.train(child.training)
                setattr(parent, name, replaced)
    return net
