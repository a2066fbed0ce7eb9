# On which line is a function stuck, or did the process crash? Written by C code that needs neither the GIL nor memory.
import faulthandler
import os
import signal as signals


def arm(descriptor, signal):
    # Rust has a handler of its own, which lets the first one pass that no fault of memory has sent: `kill -SEGV`
    for fatal in (signals.SIGSEGV, signals.SIGBUS):
        signals.signal(fatal, signals.SIG_DFL)
    faulthandler.enable(file=descriptor, all_threads=True)
    # the crash of a forked child is its own, and goes where it prints
    os.register_at_fork(after_in_child=lambda: faulthandler.enable(file=2, all_threads=True))
    faulthandler.register(signal, file=descriptor, all_threads=True, chain=False)
