"""What people look at: contact sheets, drawings of camera paths, image files and videos."""
