"""A module's parameters in one vector, so that what is done to all of them is one operation."""

import torch
from torch import nn


def flatten(module: nn.Module) -> nn.Parameter:
    """Return a vector of which all of a module's parameters, and their gradients, are views from now on.

    A network this small has some 25 parameters; an optimiser's step over them one by one takes longer in calls than in
    arithmetic. Loading a state goes on to work, as it copies into the views; moving the module to another device or
    type would part them.
    """
    parameters = [*module.parameters()]
    with torch.no_grad():
        flat = nn.Parameter(torch.cat([p.flatten() for p in parameters]), requires_grad=parameters[0].requires_grad)
        sizes = [p.numel() for p in parameters]
        for p, data in zip(parameters, torch.split(flat.data, sizes), strict=True):
            p.data = data.view_as(p)
        if flat.requires_grad:
            flat.grad = torch.zeros_like(flat)
            for p, gradient in zip(parameters, torch.split(flat.grad, sizes), strict=True):
                p.grad = gradient.view_as(p)
    return flat
