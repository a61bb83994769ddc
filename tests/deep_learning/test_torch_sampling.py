"""Batches with their neighbours: which rows, in which order, and where the neighbours are."""

from __future__ import annotations

import copy
import pickle

import pytest

torch = pytest.importorskip("torch")

from torch.utils.data import DataLoader, TensorDataset  # noqa: E402

from lle_gpu.torch import NeighborhoodBatchSampler, knn, local_neighbors, locality_loss  # noqa: E402

N, K = 103, 4


@pytest.fixture(scope="module")
def x():
    return torch.randn(N, 3, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def idx(x):
    return knn(x, k=K)


def seeds_of(sampler):
    return [batch[: sampler.n_seeds(j)] for j, batch in enumerate(sampler)]


@pytest.mark.parametrize("batch_size", [1, 20, N, 500])
@pytest.mark.parametrize("shuffle", [False, True])
def test_a_batch_is_its_seeds_and_their_other_neighbours(idx, batch_size, shuffle):
    sampler = NeighborhoodBatchSampler(idx, batch_size, shuffle=shuffle)
    batches = list(sampler)
    assert len(batches) == len(sampler) == -(-N // batch_size)
    sampler.set_epoch(0)
    for batch, seeds in zip(batches, seeds_of(sampler), strict=True):
        near = {int(j) for i in seeds for j in idx[i]}
        assert len(batch) == len(set(batch))
        assert set(batch[len(seeds) :]) == near - set(seeds)
        assert all(type(row) is int for row in batch)
    sampler.set_epoch(0)
    drawn = [row for seeds in seeds_of(sampler) for row in seeds]
    assert sorted(drawn) == list(range(N))
    assert (drawn == list(range(N))) is not shuffle


def test_drop_last_leaves_batches_of_one_size(idx):
    sampler = NeighborhoodBatchSampler(idx, 20, drop_last=True)
    seeds = seeds_of(sampler)
    assert [len(part) for part in seeds] == [20] * 5
    assert len(sampler) == 5
    assert len({row for part in seeds for row in part}) == 100


def test_the_order_is_that_of_the_seed_and_the_epoch(idx):
    def order(seed, epoch):
        sampler = NeighborhoodBatchSampler(idx, 20, seed=seed)
        sampler.set_epoch(epoch)
        return list(sampler)

    assert order(3, 5) == order(3, 5)
    orders = [order(seed, epoch) for seed, epoch in [(0, 0), (0, 1), (1, 0), (1, 1)]]
    assert all(a != b for i, a in enumerate(orders) for b in orders[:i])
    sampler = NeighborhoodBatchSampler(idx, 20)
    assert list(sampler) != list(sampler)


@pytest.mark.parametrize("replicas", [2, 4, 7])
@pytest.mark.parametrize("drop_last", [False, True])
def test_replicas_share_the_seeds(idx, replicas, drop_last):
    samplers = [
        NeighborhoodBatchSampler(
            idx, 6, rank=rank, num_replicas=replicas, drop_last=drop_last, seed=1
        )
        for rank in range(replicas)
    ]
    lengths = [[len(part) for part in seeds_of(sampler)] for sampler in samplers]
    assert all(length == lengths[0] for length in lengths)  # or a replica waits for ever
    shares = [[row for part in seeds_of(sampler) for row in part] for sampler in samplers]
    drawn = [row for share in shares for row in share]
    assert all(len(set(share)) == len(share) for share in shares)
    repeated = len(drawn) - len(set(drawn))
    if drop_last:
        assert repeated == 0
    else:
        assert set(drawn) == set(range(N))
        assert repeated == -N % replicas


def test_more_replicas_than_points(idx):
    few = idx[:3] % 3
    shares = [
        seeds_of(NeighborhoodBatchSampler(few, 2, rank=rank, num_replicas=5, shuffle=False))
        for rank in range(5)
    ]
    assert shares == [[[0]], [[1]], [[2]], [[0]], [[1]]]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_loader_hands_out_what_the_loss_needs(x, idx, workers):
    sampler = pickle.loads(pickle.dumps(NeighborhoodBatchSampler(idx, 30, seed=4)))
    loader = DataLoader(
        TensorDataset(x, torch.arange(N)), batch_sampler=sampler, num_workers=workers
    )
    w = torch.full((N, K), 1 / K)
    total = 0.0
    for number, (points, rows) in enumerate(loader):
        b = sampler.n_seeds(number)
        local = local_neighbors(rows, idx, b)
        assert torch.equal(points[local], x[idx[rows[:b]]])
        total += locality_loss(
            points[:b], (points, local), w[rows[:b]], normalize="none", reduction="sum"
        )
    whole = locality_loss(x, (x, idx), w, normalize="none", reduction="sum")
    torch.testing.assert_close(total, whole)


@pytest.mark.parametrize("workers", [0, 1])
def test_epochs_count_on_by_themselves(x, idx, workers):
    sampler = NeighborhoodBatchSampler(idx, 20, seed=3)
    loader = DataLoader(TensorDataset(torch.arange(N)), batch_sampler=sampler, num_workers=workers)
    orders = [[rows.tolist() for (rows,) in loader] for _ in range(3)]
    assert orders[0] != orders[1] != orders[2] != orders[0]
    for epoch in (2, 0, 1):
        sampler.set_epoch(epoch)
        assert list(sampler) == orders[epoch]
    assert list(pickle.loads(pickle.dumps(sampler))) == orders[2] == list(sampler)


def test_an_array_of_neighbours_is_called_one(idx):
    with pytest.raises(TypeError, match="idx is a ndarray, and must be a tensor"):
        NeighborhoodBatchSampler(idx.numpy(), 20)


def test_copies_go_on_alike(idx):
    sampler = NeighborhoodBatchSampler(idx, 10, seed=2)
    sampler.set_epoch(3)
    assert list(copy.deepcopy(sampler)) == list(sampler)
    assert list(pickle.loads(pickle.dumps(sampler))) == list(sampler)


def test_local_neighbours_of_small_integers_and_no_seeds(idx):
    rows = torch.tensor(next(iter(NeighborhoodBatchSampler(idx, 10))))
    expected = local_neighbors(rows, idx, 10)
    assert torch.equal(local_neighbors(rows.int(), idx.int(), 10), expected)
    assert expected.dtype == torch.int64
    assert local_neighbors(rows, idx, 0).shape == (0, K)


def test_what_is_refused(idx):
    rows = torch.tensor(next(iter(NeighborhoodBatchSampler(idx, 10))))
    with pytest.raises(ValueError, match="rows lacks .* neighbours"):
        local_neighbors(rows, idx, len(rows))
    with pytest.raises(ValueError, match=r"n_seeds=-1 must be from 0 to"):
        local_neighbors(rows, idx, -1)
    with pytest.raises(IndexError, match=f"rows has {N}"):
        local_neighbors(torch.tensor([N]), idx, 1)
    with pytest.raises(ValueError, match="must be a tensor of shape"):
        local_neighbors(rows[:, None], idx, 1)
    with pytest.raises(IndexError, match="idx has"):
        NeighborhoodBatchSampler(idx[:50], 10)
    with pytest.raises(TypeError, match="idx is"):
        NeighborhoodBatchSampler(idx.float(), 10)
    for options, message in [
        ({"batch_size": 0}, "batch_size=0 must be an integer, at least 1"),
        ({"batch_size": 2.5}, "batch_size=2.5"),
        ({"batch_size": 4, "seed": -1}, "seed=-1"),
        ({"batch_size": 4, "rank": 2, "num_replicas": 2}, "rank=2 must be from 0 to 1"),
        ({"batch_size": N + 1, "drop_last": True}, "leaves no batch"),
    ]:
        with pytest.raises(ValueError, match=message):
            NeighborhoodBatchSampler(idx, **options)
    sampler = NeighborhoodBatchSampler(idx, 10)
    with pytest.raises(ValueError, match="epoch=-1"):
        sampler.set_epoch(-1)
    with pytest.raises(IndexError, match="batch=11 must be from 0 to 10"):
        sampler.n_seeds(11)
