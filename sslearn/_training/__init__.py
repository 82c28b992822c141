"""The training of an objective: the loop, Lightning around it, and what "auto" stands for."""
