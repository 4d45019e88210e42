"""How strange is it? Features in, score out."""
