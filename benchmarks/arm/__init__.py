"""Do exported files give their golden scores on ARM? Asked of QEMU, where no board is at hand.

::

    install.sh ──▶ root: Debian arm64, aarch64 wheels, the ExecuTorch runner
    EXPORT ──▶ score_process here and in the root, once a processor model ──▶ ArmRecord ──▶ table

QEMU gives the numbers that the instructions give, and nothing about their speed: no record of this
package holds a time.
"""
