"""What a study says in the end: its answer, its figures and the page that shows them."""
