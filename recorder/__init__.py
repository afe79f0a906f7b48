"""The record: casts, the chain, the ledger and its proofs.

Imports nothing of the gateway, so that an auditor can run it alone:
``python -m recorder verify PATH...``. The formats are in docs/formats.md.

    writing a session      writer → cast, chain, salts
    writing the ledger     leaf → canonical; merkle; note, sshsig (checkpoints)
    verifying              verify → castcheck, storecheck → storefile; report
"""
