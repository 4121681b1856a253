"""Work that takes longer than a page may take: values read in the background, commands in processes of their own."""
