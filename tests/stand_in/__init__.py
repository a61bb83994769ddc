"""A stand-in for CuPy without a GPU: arrays are NumPy's, kernels run in the emulator. A test tool.

It runs the real Python code of the GPU path where there is no GPU. It is no second CPU path, never
ships, and is slow. It is stricter than CuPy, so that what runs here runs there:

- only what lle_gpu uses of CuPy is there, with CuPy's own signatures (the tests hold them against
  the real ones);
- nothing converts from or to NumPy by itself: arrays mix with arrays of their device and with
  scalars; anything else is a TypeError;
- arrays belong to one of two devices, and the device they are used on must be theirs;
- new arrays are filled with NaN, or -1;
- a device has a number of bytes, and more than these are an OutOfMemoryError;
- while a stream is captured into a graph, kernels may be launched and nothing else done;
- what an operation uses was done on its own stream, or is waited for (:mod:`stand_in.streams`): all
  is done at once and in order, and what a device might do in another order is an error;
- options of the compiler that the emulator does nothing about are errors.

The streams of other libraries than CuPy are not known to it.

    machine = install(monkeypatch)       # from here on, import cupy gives the stand-in
    machine.memory_bytes = 1_000_000     # of each device
    machine.seed = 1                     # the emulator's schedule
"""

from .machine import Machine, install, machine

__all__ = ["Machine", "install", "machine"]
