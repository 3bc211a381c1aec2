from django.db import models


class Order(models.Model):
    id = models.BigAutoField(primary_key=True)
    title = models.CharField(max_length=200)
    status = models.CharField(max_length=20, default="placed")
