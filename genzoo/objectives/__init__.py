"""Objectives: the loss, and nothing else knows it. Contract: `genzoo.parts.Objective`."""
