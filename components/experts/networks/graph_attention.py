"""Attention on the hierarchical graph of one timestamp: stocks among each other, their industries, sectors
and the market.

Everything about an edge is made of the batch's own windows, so it is known when the day is predicted and
serving needs nothing beside the windows. Dense masked attention: tests/benchmarks/bench_graph_attention.py
compares it with torch-geometric.

Shapes: D days, S slots a day, L bars, E width, H heads, P edge features, C sectors and I industries (number
0: unknown), N nodes above the stocks.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

FLAGS = ("same_sector", "same_industry")
FROM_RETURNS = (
    "residual_correlation",
    "sector_residual_correlation",
    "volatility_similarity",
    "sector_co_movement",
)
PEERS = ("same_industry", "same_sector", "other_sector")
NEVER = -1e9
SMALLEST_NORM = 1e-6


@dataclass(frozen=True)
class DayGraph:
    """One timestamp's stocks.

    filled_DS : bool
    hears_DS : 1 where a stock has another one to listen to, else 0
    edges_DPSS : features of each edge by name in `edge_names`, and last NEVER where the first may not listen
        to the second: itself and empty slots
    sector_DSC, industry_DSI : one-hot membership, rows of 0 for empty slots
    """

    filled_DS: Tensor
    hears_DS: Tensor
    edges_DPSS: Tensor
    sector_DSC: Tensor
    industry_DSI: Tensor


def edge_names(with_returns: bool) -> tuple[str, ...]:
    """The edge features that a graph has with or without returns among its inputs."""
    return (*FLAGS, *FROM_RETURNS) if with_returns else FLAGS


def bounded_temperature(theta_H: Tensor) -> Tensor:
    """0.5 to 2, and 1 at theta 0."""
    return 0.5 * 4 ** torch.sigmoid(theta_H)


def memberships(number_DS: Tensor, filled_DS: Tensor, known: int) -> Tensor:
    """One-hot [D, S, known + 1] of numbers 0 (unknown) to `known`, float; 0 for empty slots."""
    return (
        (number_DS[..., None] == torch.arange(known + 1, device=number_DS.device)) & filled_DS[..., None]
    ).float()


def make_graph(
    filled_DS: Tensor,
    sector_DS: Tensor,
    industry_DS: Tensor,
    sectors: int,
    industries: int,
    returns_DSL: Tensor | None,
    begun_DSL: Tensor,
) -> DayGraph:
    """The graph of each day.

    Parameters
    ----------
    filled_DS : bool
    sector_DS, industry_DS : 0 where unknown, else 1 to `sectors` and `industries`
    returns_DSL : log returns a bar, or None: then the edges have flags alone
    begun_DSL : bool, which of the bars lie within the symbol's life
    """
    sector_DSC = memberships(sector_DS, filled_DS, sectors)
    industry_DSI = memberships(industry_DS, filled_DS, industries)
    slot_S = torch.arange(filled_DS.shape[1], device=filled_DS.device)
    allowed_DSS = filled_DS[:, :, None] & filled_DS[:, None, :] & (slot_S[:, None] != slot_S[None, :])
    features = [_products(sector_DSC[..., 1:]), _products(industry_DSI[..., 1:])]
    if returns_DSL is not None:
        features += return_edges(returns_DSL, (begun_DSL & filled_DS[..., None]).float(), sector_DSC)
    return DayGraph(
        filled_DS,
        allowed_DSS.any(dim=2).float(),
        torch.stack([*features, blocked(allowed_DSS)], dim=1),
        sector_DSC,
        industry_DSI,
    )


def blocked(allowed: Tensor) -> Tensor:
    """What to add to scores: 0 where allowed, else NEVER."""
    return (~allowed).float() * NEVER


def return_edges(returns_DSL: Tensor, begun_DSL: Tensor, sector_DSC: Tensor) -> list[Tensor]:
    """The features `FROM_RETURNS`, each [D, S, S], over the bars that `begun_DSL` marks with 1.

    A residual is the return less the bar's mean over the stocks; the sector's residual less the bar's mean
    over the known sector too. A correlation of two stocks takes each one's own bars for its mean and norm and
    the bars of both for the product, so a short life shrinks it. Volatility similarity is the smaller over
    the larger standard deviation. Co-movement is the correlation of the first stock's residual with the mean
    residual of the second's sector, the stock itself included where it is a member; 0 where the second's
    sector is unknown.
    """
    known_DSC = sector_DSC[..., 1:]
    residual_DSL = (returns_DSL - _mean(returns_DSL, begun_DSL, 1)) * begun_DSL
    bars_DCL = known_DSC.mT @ begun_DSL
    sector_mean_DCL = known_DSC.mT @ residual_DSL / bars_DCL.clamp_min(1)
    of_sector_DSL = (residual_DSL - known_DSC @ sector_mean_DCL) * begun_DSL
    stock_DSL = _unit(residual_DSL, begun_DSL)
    moves_DSC = stock_DSL @ _unit(sector_mean_DCL, (bars_DCL > 0).float()).mT
    deviation_DS = (
        ((returns_DSL - _mean(returns_DSL, begun_DSL, 2)) * begun_DSL).square().sum(dim=2)
        / begun_DSL.sum(dim=2).clamp_min(1)
    ).sqrt()
    smaller_DSS = torch.minimum(deviation_DS[:, :, None], deviation_DS[:, None, :])
    larger_DSS = torch.maximum(deviation_DS[:, :, None], deviation_DS[:, None, :])
    return [
        _products(stock_DSL),
        _products(_unit(of_sector_DSL, begun_DSL)),
        smaller_DSS / larger_DSS.clamp_min(SMALLEST_NORM),
        moves_DSC @ known_DSC.mT,
    ]


def _products(x_DSX: Tensor) -> Tensor:
    return x_DSX @ x_DSX.mT


def _mean(x_DSL: Tensor, weight_DSL: Tensor, dim: int) -> Tensor:
    return (x_DSL * weight_DSL).sum(dim=dim, keepdim=True) / weight_DSL.sum(dim=dim, keepdim=True).clamp_min(
        1
    )


def _unit(x_DSL: Tensor, weight_DSL: Tensor) -> Tensor:
    """Series of mean 0 and norm 1 over their weighted bars; 0 where they do not move."""
    centred_DSL = (x_DSL - _mean(x_DSL, weight_DSL, 2)) * weight_DSL
    return centred_DSL / centred_DSL.square().sum(dim=2, keepdim=True).sqrt().clamp_min(SMALLEST_NORM)


class TemperedAttention(nn.Module):
    """Multi-head attention with a learned, bounded temperature a head and an additive bias."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.output = nn.Linear(width, width, bias=False)
        self.temperature_gate_H = nn.Parameter(torch.zeros(heads))

    def temperature(self) -> Tensor:
        """Of each head, in [0.5, 2]."""
        return bounded_temperature(self.temperature_gate_H)

    def forward(
        self, asking_DQE: Tensor, giving_DSE: Tensor, bias_DHQS: Tensor, hears_DQ: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Messages [D, Q, E] and weights [D, H, Q, S].

        `bias_DHQS`, which has 1 in place of any but the last axis where it is the same there, is added to the
        scores after they were divided by sqrt(E / H) and the temperature; NEVER keeps one from being heard.
        Where `hears_DQ` is 0 instead of 1 the message is 0 and the weights mean nothing.
        """
        query_DHQX = self._split(self.query(asking_DQE)) / (
            self.temperature()[:, None, None] * math.sqrt(asking_DQE.shape[-1] / self.heads)
        )
        key_DSE, value_DSE = self.key_value(giving_DSE).chunk(2, dim=-1)
        weights_DHQS = torch.softmax(query_DHQX @ self._split(key_DSE).mT + bias_DHQS, dim=-1)
        mixed_DQE = (weights_DHQS @ self._split(value_DSE)).transpose(1, 2).flatten(2)
        return self.output(mixed_DQE * hears_DQ[..., None]), weights_DHQS

    def _split(self, x_DSE: Tensor) -> Tensor:
        return x_DSE.unflatten(-1, (self.heads, -1)).transpose(1, 2)


class GraphLayer(nn.Module):
    """What a stock hears from its peers, by attention whose scores its edges raise or lower, and from its
    industry, its sector and the market.

    Industries and sectors are the means of their members; sectors and the market attend to each other before
    they answer. Sector and industry 0 gather the unknown ones, whose edges have no flags.
    """

    def __init__(self, width: int, heads: int, edges: int, dropout: float):
        super().__init__()
        self.dropout = dropout
        self.peers, self.groups = TemperedAttention(width, heads), TemperedAttention(width, heads)
        self.edge_bias_HP = nn.Parameter(torch.ones(heads, edges))
        self.above = nn.Linear(3 * width, width)
        self.wide = nn.Linear(3 * width, width)
        self.narrow = nn.Linear(width, 2 * width)

    def forward(self, x_DSE: Tensor, graph: DayGraph) -> tuple[Tensor, Tensor]:
        """What to add to the stocks, [D, S, E], and the peers' weights [D, H, S, S]."""
        width = x_DSE.shape[-1]
        normed_DSE = functional.layer_norm(x_DSE, (width,))
        heard_DSE, weights_DHSS = self.hear(normed_DSE, graph)
        told_DSE = self._from_above(normed_DSE, graph)
        joined_DSX = torch.cat([normed_DSE, heard_DSE, told_DSE], dim=-1)
        hidden_DSE = functional.dropout(functional.gelu(self.wide(joined_DSX)), self.dropout, self.training)
        return functional.glu(self.narrow(hidden_DSE), dim=-1), weights_DHSS

    def hear(self, x_DSE: Tensor, graph: DayGraph) -> tuple[Tensor, Tensor]:
        """What the stocks hear from each other [D, S, E], and the weights [D, H, S, S]."""
        return self.peers(x_DSE, x_DSE, self._edge_scores(graph), graph.hears_DS)

    def _edge_scores(self, graph: DayGraph) -> Tensor:
        """[D, H, S, S]: each head's weighting of the features over its temperature, and NEVER as it is."""
        weight_HP = self.edge_bias_HP / self.peers.temperature()[:, None]
        weight_HP = torch.cat([weight_HP, torch.ones_like(weight_HP[:, :1])], dim=1)
        slots = graph.filled_DS.shape[1]
        return (weight_HP @ graph.edges_DPSS.flatten(2)).unflatten(2, (slots, slots))

    def _from_above(self, x_DSE: Tensor, graph: DayGraph) -> Tensor:
        industry_DIE, _ = _means(graph.industry_DSI, x_DSE)
        sector_DCE, members_DC = _means(graph.sector_DSC, x_DSE)
        market_D1E, members_D1 = _means(graph.filled_DS[..., None].float(), x_DSE)
        nodes_DNE = torch.cat([sector_DCE, market_D1E], dim=1)
        some_DN = torch.cat([members_DC, members_D1], dim=1) > 0
        heard_DNE, _ = self.groups(nodes_DNE, nodes_DNE, blocked(some_DN)[:, None, None], some_DN.float())
        nodes_DNE = nodes_DNE + heard_DNE
        own_sector_DSE = graph.sector_DSC @ nodes_DNE[:, :-1]
        market_DSE = nodes_DNE[:, -1:].expand_as(own_sector_DSE)
        return self.above(torch.cat([graph.industry_DSI @ industry_DIE, own_sector_DSE, market_DSE], dim=-1))


def _means(member_DSC: Tensor, x_DSE: Tensor) -> tuple[Tensor, Tensor]:
    """Means [D, C, E] over members, 0 where there are none, and how many there are [D, C]."""
    members_DC = member_DSC.sum(dim=1)
    return member_DSC.mT @ x_DSE / members_DC.clamp_min(1)[..., None], members_DC


def peer_shares(weights_DHSS: Tensor, graph: DayGraph) -> Tensor:
    """[D, S, 3]: the share of a stock's attention that goes to each of `PEERS`, mean over heads, 0 without
    peers; `same_sector` without those of the same industry.
    """
    weight_DSS = weights_DHSS.mean(dim=1) * graph.hears_DS[..., None]
    same_sector_DSS, same_industry_DSS = graph.edges_DPSS[:, : len(FLAGS)].unbind(dim=1)
    industry_DS = (weight_DSS * same_industry_DSS).sum(dim=2)
    sector_DS = (weight_DSS * same_sector_DSS * (1 - same_industry_DSS)).sum(dim=2)
    return torch.stack([industry_DS, sector_DS, weight_DSS.sum(dim=2) - industry_DS - sector_DS], dim=2)
