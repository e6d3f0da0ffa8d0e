"""Study: tables and pictures of what came out."""
