"""Reads GPUs through the driver's own library, independently of the product: what is proven here is proven by another reader.

Opens no CUDA context and changes nothing.
"""

import ctypes
from typing import NamedTuple

USUAL_LIBRARY = "libnvidia-ml.so.1"

SUCCESS, NOT_SUPPORTED, INSUFFICIENT_SIZE = 0, 3, 7
NOT_AVAILABLE = 2**64 - 1
TEXT_LENGTH = 96
SPARE_PROCESSES = 16


class NvmlError(Exception):
    """The library is missing, or a call failed."""


class Gpu(NamedTuple):
    """A card; it goes by its UUID, since an index may change."""

    index: int
    uuid: str
    name: str
    capability: str
    split: bool


class Memory(NamedTuple):
    """Bytes; what the driver keeps for itself is neither free nor used."""

    total: int
    free: int
    used: int


class _Memory(ctypes.Structure):
    """`nvmlMemory_v2_t`."""

    _fields_ = [
        ("version", ctypes.c_uint),
        ("total", ctypes.c_ulonglong),
        ("reserved", ctypes.c_ulonglong),
        ("free", ctypes.c_ulonglong),
        ("used", ctypes.c_ulonglong),
    ]


class _Process(ctypes.Structure):
    """`nvmlProcessInfo_t` of the calls of version 2 and 3."""

    _fields_ = [
        ("pid", ctypes.c_uint),
        ("used", ctypes.c_ulonglong),
        ("gpu_instance", ctypes.c_uint),
        ("compute_instance", ctypes.c_uint),
    ]


class Nvml:
    """An initialised driver library."""

    def __init__(self, library=None):
        name = library or USUAL_LIBRARY
        try:
            self._library = ctypes.CDLL(name)
        except OSError as error:
            raise NvmlError(f"the NVML library {name} cannot be loaded: {error}") from None
        self._library.nvmlErrorString.restype = ctypes.c_char_p
        self._call("nvmlInit_v2")

    def driver_version(self):
        return self._text("nvmlSystemGetDriverVersion")

    def cuda_version(self):
        """The newest CUDA version that the driver supports, `major.minor`."""
        number = ctypes.c_int()
        self._call("nvmlSystemGetCudaDriverVersion_v2", ctypes.byref(number))
        return f"{number.value // 1000}.{number.value % 1000 // 10}"

    def gpus(self):
        count = ctypes.c_uint()
        self._call("nvmlDeviceGetCount_v2", ctypes.byref(count))
        return [self._gpu(index) for index in range(count.value)]

    def memory(self, uuid):
        memory = _Memory(version=ctypes.sizeof(_Memory) | 2 << 24)
        self._call("nvmlDeviceGetMemoryInfo_v2", self._handle(uuid), ctypes.byref(memory))
        return Memory(memory.total, memory.free, memory.used)

    def processes(self, uuid):
        """Bytes by process; None where the driver does not tell how many."""
        handle, room = self._handle(uuid), 0
        while True:
            count, found = ctypes.c_uint(room), (_Process * room)()
            status = self._list(handle, ctypes.byref(count), found if room else None)
            if status == SUCCESS:
                listed = list(found)[: count.value]
                return {entry.pid: None if entry.used == NOT_AVAILABLE else entry.used for entry in listed}
            if status != INSUFFICIENT_SIZE:
                raise self._error("nvmlDeviceGetComputeRunningProcesses", status)
            room = count.value + SPARE_PROCESSES

    def _list(self, handle, count, found):
        for version in ("_v3", "_v2"):
            function = getattr(self._library, "nvmlDeviceGetComputeRunningProcesses" + version, None)
            if function:
                return function(handle, count, found)
        raise NvmlError("this driver is too old to list processes (version 510 or newer is needed)")

    def _gpu(self, index):
        handle = ctypes.c_void_p()
        self._call("nvmlDeviceGetHandleByIndex_v2", ctypes.c_uint(index), ctypes.byref(handle))
        major, minor = ctypes.c_int(), ctypes.c_int()
        self._call("nvmlDeviceGetCudaComputeCapability", handle, ctypes.byref(major), ctypes.byref(minor))
        uuid, name = self._text("nvmlDeviceGetUUID", handle), self._text("nvmlDeviceGetName", handle)
        return Gpu(index, uuid, name, f"{major.value}.{minor.value}", self._is_split(handle))

    def _is_split(self, handle):
        now, then = ctypes.c_uint(), ctypes.c_uint()
        status = self._library.nvmlDeviceGetMigMode(handle, ctypes.byref(now), ctypes.byref(then))
        if status not in (SUCCESS, NOT_SUPPORTED):
            raise self._error("nvmlDeviceGetMigMode", status)
        return status == SUCCESS and now.value == 1

    def _handle(self, uuid):
        handle = ctypes.c_void_p()
        self._call("nvmlDeviceGetHandleByUUID", uuid.encode(), ctypes.byref(handle))
        return handle

    def _text(self, name, *arguments):
        buffer = ctypes.create_string_buffer(TEXT_LENGTH)
        self._call(name, *arguments, buffer, ctypes.c_uint(TEXT_LENGTH))
        return buffer.value.decode(errors="replace")

    def _call(self, name, *arguments):
        function = getattr(self._library, name, None)
        if not function:
            raise NvmlError(f"this driver is too old: it has no {name} (version 510 or newer is needed)")
        status = function(*arguments)
        if status != SUCCESS:
            raise self._error(name, status)

    def _error(self, name, status):
        text = self._library.nvmlErrorString(ctypes.c_uint(status))
        return NvmlError(f"{name}: {text.decode(errors='replace') if text else status}")
