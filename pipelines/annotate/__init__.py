"""The annotation page: a person's clicks, boxes and strokes become the prompts file that `osn segment --prompts` reads."""
