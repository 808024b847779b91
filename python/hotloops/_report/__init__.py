"""What the terminal commands print and write: tables, pictures, pages."""
