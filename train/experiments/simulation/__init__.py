"""The simulated experiment of the theory of synthetic captions, with controls.

Source of the design: Sun et al., "Contrastive Learning with Data Misalignment: Feature Purity,
Training Dynamics and Theoretical Generalization Guarantees", NeurIPS 2025, section 5.1.
"""
