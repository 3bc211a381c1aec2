"""Where pure meets SQL: one public function is one transaction."""
