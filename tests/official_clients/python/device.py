"""The official device client. The outcome of a request to `provision` is that of one registration."""

from driver import drive
from provision import causes, register

drive("azure-iot-device", register, causes)
