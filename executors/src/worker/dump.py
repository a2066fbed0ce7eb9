# On which line is a function stuck, or did the process crash? Written by C code that needs neither the GIL nor memory.
import faulthandler


def arm(descriptor, signal):
    faulthandler.enable(file=descriptor, all_threads=True)
    faulthandler.register(signal, file=descriptor, all_threads=True, chain=False)
