"""What methods' networks share.

How a scan becomes what they see (`stack`, `symmetry`), a U-Net (`unet`), atoms as peaks of an image (`peaks`), recipes
of such networks (`recipe`), and how their weights files are read (`file`).
"""
