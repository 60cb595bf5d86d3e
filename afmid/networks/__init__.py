"""What methods' networks share: how a scan becomes what they see (`stack`, `symmetry`), and a U-Net (`unet`)."""
