"""The conformance kit: does a part keep the contract of its kind, in everything a run will ask of it?

    from genzoo.testing import conformance

    def test_conformance():
        conformance("decoders/mine", {"base_dim": 8})

`genzoo check decoders/mine base_dim=8` runs the same checks from the command line.
"""

from genzoo.testing.examine import Result, conformance, examine

__all__ = ["Result", "conformance", "examine"]
