"""What holds a child: namespaces, or landlock and seccomp, or (development) little.

``levels`` says what this machine can do, ``programs`` what a client needs to run,
``launcher`` asks ``zygote``, a small process of its own, to start a child. The zygote
imports ``landlock``, ``seccomp`` and ``prctl`` and nothing heavy, so that each child costs
one fork of a few megabytes and not one of the gateway. ``terminal`` makes what a child
draws on where there is a person to see it.
docs/decisions/0003-confinement.md says why, and what each level does not stop.
"""
