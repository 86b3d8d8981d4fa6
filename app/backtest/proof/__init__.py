"""The proof, live: the running stack's orders against an undisturbed computation of its run."""
