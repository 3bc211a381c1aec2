from celery import shared_task


@shared_task(bind=True, max_retries=5)
def write_letter(self, order: int, status: str) -> str:  # a task that was there before
    return f"order {order} is {status} ({self.request.retries} retries)"
