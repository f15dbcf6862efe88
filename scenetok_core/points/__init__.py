"""From depth to points: what is measured, point clouds, their files, and how they look from all around."""
