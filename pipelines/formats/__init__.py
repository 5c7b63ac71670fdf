"""Other people's file formats, one module each; axes and units are converted here and nowhere else."""
