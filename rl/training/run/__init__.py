"""What every training needs: a Ray, a folder, progress, tracking."""
