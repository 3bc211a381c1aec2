from shop.celery import app


@app.task(autoretry_for=(ConnectionError,), max_retries=5, time_limit=60)
def invoice(order: str) -> str:  # a task that was there before
    return f"invoice of {order}"
