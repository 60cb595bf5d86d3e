"""`afmid train`: molecules to weights."""
def train() -> None:
    """Train."""
